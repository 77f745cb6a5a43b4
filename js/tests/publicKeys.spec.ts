/** @jest-environment node */
import { check } from '../src/publicKeys';

/** A blob as RFC 4251 writes it, in base64. */
function line(type: string, ...fields: number[][]): string {
  const parts = [[...Buffer.from(type)], ...fields].map(field => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(field.length);
    return Buffer.concat([length, Buffer.from(field)]);
  });
  return `${type} ${Buffer.concat(parts).toString('base64')} me@laptop`;
}

const bytes = (count: number, first = 0xff): number[] => [first, ...new Array(count - 1).fill(0x55)];
const ed25519 = line('ssh-ed25519', bytes(32));
const rsa = (bits: number): string => line('ssh-rsa', [1, 0, 1], [0, ...bytes(bits / 8)]);

describe('what is said of a key before it is sent', () => {
  it.each([
    ['an Ed25519 key', ed25519],
    ['an RSA key of 2048 bits', rsa(2048)],
    ['several, with comments and empty lines', `# mine\r\n\r\n${ed25519}\r\n${rsa(4096)}\n`]
  ])('takes %s', (_name, text) => {
    expect(check(text)).toBeNull();
  });

  it.each([
    ['', 'empty', 0],
    ['# only a comment', 'empty', 0],
    ['hello world', 'malformed', 1],
    [ed25519.slice(0, 40), 'malformed', 1],
    [`${ed25519}\nssh-ed25519 ???`, 'malformed', 2],
    [ed25519.replace('ssh-ed25519', 'ssh-rsa'), 'malformed', 1],
    ['ssh-dss AAAAB3NzaC1kc3M=', 'type', 1],
    ['ssh-ed25519-cert-v01@openssh.com AAAA', 'certificate', 1],
    ['-----BEGIN OPENSSH PRIVATE KEY-----', 'private', 0],
    ['-----BEGIN EC PRIVATE KEY-----', 'private', 0],
    ['PuTTY-User-Key-File-3: ssh-ed25519', 'private', 0],
    ['b3BlbnNzaC1rZXktdjEAAAAABG5vbmU', 'private', 0],
    [`${ed25519}\n`.repeat(1000), 'large', 0]
  ])('refuses %j as %s', (text, problem, at) => {
    expect(check(text)).toMatchObject({ problem, line: at });
  });

  it('tells how many bits a weak RSA key has', () => {
    expect(check(rsa(1024))).toEqual({ problem: 'weak', line: 1, bits: 1024 });
  });

  it('knows a key again whatever its comment, and lets a new one beside it pass', () => {
    const other = ed25519.replace('me@laptop', 'work');
    expect(check(other, [ed25519])).toEqual({ problem: 'duplicate', line: 0 });
    expect(check(`${other}\n${rsa(2048)}`, [ed25519])).toBeNull();
  });
});
