/** The sentences for what is wrong with a key before it is sent. */
import type { TranslationBundle } from '@jupyterlab/translation';
import type { IFinding } from './publicKeys';

export function sentence(finding: IFinding, trans: TranslationBundle): string {
  const text = ofProblem(finding, trans);
  return finding.line > 1 ? trans.__('Line %1: %2', finding.line, text) : text;
}

function ofProblem({ problem, bits }: IFinding, trans: TranslationBundle): string {
  switch (problem) {
    case 'empty':
      return trans.__('There is no key in this text. Paste the one line of a file that ends in .pub.');
    case 'large':
      return trans.__('This is too long to be public keys. Choose the file that ends in .pub.');
    case 'private':
      return trans.__(
        'This is a private key. It was not sent; keep it to yourself. Add the line of the file that ends in .pub.'
      );
    case 'malformed':
      return trans.__('This is not a whole OpenSSH public key. Copy the one line of a file that ends in .pub.');
    case 'type':
      return trans.__('This type of key is not taken. Make a new one with: ssh-keygen -t ed25519');
    case 'certificate':
      return trans.__('This is a certificate, not a key. Paste the line of the .pub file it was made from.');
    case 'weak':
      return trans.__('An RSA key of %1 bits is too weak. Make a new one with: ssh-keygen -t ed25519', bits ?? 0);
    case 'duplicate':
      return trans.__('This key is already registered.');
  }
}
