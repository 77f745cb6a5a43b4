/** What can be said of a public key before it is sent; the server checks all of it again, and more. Knows no DOM. */

export const MAX_TEXT = 65536;
const MIN_RSA_BITS = 2048;
const TYPES = new Set([
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'ssh-rsa',
  'sk-ssh-ed25519@openssh.com',
  'sk-ecdsa-sha2-nistp256@openssh.com'
]);
// Whatever part of a private key's file was taken: PEM, PuTTY, or OpenSSH's magic in base64.
const PRIVATE =
  /(?:BEGIN|END)\s+(?:[A-Z0-9]+\s+){0,3}PRIVATE\s+KEY|PuTTY-User-Key-File|Private-(?:Lines|MAC):|b3BlbnNzaC1rZXktdjEA/i;

export type Problem = 'empty' | 'large' | 'private' | 'malformed' | 'type' | 'certificate' | 'weak' | 'duplicate';

export interface IFinding {
  problem: Problem;
  /** counts from 1; 0: all of the text */
  line: number;
  /** of a weak RSA key */
  bits?: number;
}

/** What is wrong with a text that the user offers as keys, or null. `known` are lines of keys that are registered. */
export function check(text: string, known: Iterable<string> = []): IFinding | null {
  if (PRIVATE.test(text)) {
    return { problem: 'private', line: 0 };
  }
  if (text.length > MAX_TEXT) {
    return { problem: 'large', line: 0 };
  }
  const registered = new Set([...known].map(blob));
  let found = 0;
  let fresh = 0;
  for (const [index, raw] of text.split(/\r\n|\r|\n/).entries()) {
    const line = raw.trim();
    if (!line || line.startsWith('#')) {
      continue;
    }
    const finding = checkLine(line);
    if (finding) {
      return { ...finding, line: index + 1 };
    }
    found += 1;
    fresh += registered.has(blob(line)) ? 0 : 1;
  }
  if (!found) {
    return { problem: 'empty', line: 0 };
  }
  return fresh ? null : { problem: 'duplicate', line: 0 };
}

/** The base64 part of a line: what makes two keys the same whatever their comments say. */
function blob(line: string): string {
  return line.trim().split(/\s+/)[1] ?? '';
}

function checkLine(line: string): Omit<IFinding, 'line'> | null {
  const [type = '', encoded = ''] = line.split(/\s+/);
  if (/-cert-v\d\d@openssh\.com$/.test(type)) {
    return { problem: 'certificate' };
  }
  if (!TYPES.has(type)) {
    return { problem: encoded.startsWith('AAAA') ? 'type' : 'malformed' };
  }
  const fields = strings(encoded);
  if (!fields || new TextDecoder().decode(fields[0]) !== type) {
    return { problem: 'malformed' };
  }
  if (type === 'ssh-rsa') {
    const bits = bitLength(fields[2]);
    if (bits < MIN_RSA_BITS) {
      return { problem: 'weak', bits };
    }
  }
  return null;
}

/** RFC 4251, section 5: the strings that a blob is made of; null where it is cut short or no base64. */
function strings(encoded: string): Uint8Array[] | null {
  let bytes: Uint8Array;
  try {
    bytes = Uint8Array.from(atob(encoded), each => each.charCodeAt(0));
  } catch {
    return null;
  }
  const fields: Uint8Array[] = [];
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < bytes.length;) {
    if (at + 4 > bytes.length) {
      return null;
    }
    const end = at + 4 + view.getUint32(at);
    if (end > bytes.length) {
      return null;
    }
    fields.push(bytes.subarray(at + 4, end));
    at = end;
  }
  return fields.length > 1 ? fields : null;
}

function bitLength(number: Uint8Array = new Uint8Array()): number {
  const first = number.findIndex(each => each !== 0);
  return first < 0 ? 0 : (number.length - first) * 8 - (Math.clz32(number[first] ?? 0) - 24);
}
