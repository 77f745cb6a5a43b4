/** Commands, configuration and links that lead into this server. Pure: what is shown is made here, and tested here. */

export interface ITarget {
  host: string;
  port: number;
  /** what stands before the @: `alice`, or `alice+gpu` for a named server */
  login: string;
  /** the gateway's host key, `type base64`; may be empty */
  hostKey: string;
  /** folder that editors open, absolute; may be empty */
  folder: string;
  /** URL of the gateway's WebSocket, where its port can't be reached; else empty */
  tunnel: string;
}

const PLAIN_LOGIN = /^[A-Za-z0-9_][A-Za-z0-9_.+-]*$/;

/** Quoted for a POSIX shell where need be. */
export function quote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replace(/'/g, `'\\''`)}'`;
}

/** ssh splits user@host at the last @, but scp-like tools and shells do not all agree: odd names go by -l. */
function byOption(target: ITarget): boolean {
  return !PLAIN_LOGIN.test(target.login);
}

/** scp's way of writing an address; an IPv6 one stands in brackets. */
function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

function portOption(target: ITarget, letter: 'p' | 'P'): string {
  return target.port === 22 ? '' : ` -${letter} ${target.port}`;
}

/** Of text that may go into a command; null for anything else, and where there is none. */
export function tunnelOf(url: string | undefined): URL | null {
  if (!url || !/^wss?:\/\/(\[[\da-f:]+\]|[\w.-]+)(:\d{1,5})?(\/[\w.~%/-]*)?$/i.test(url)) {
    return null;
  }
  try {
    return new URL(url);
  } catch {
    return null; // a port or an address that is none
  }
}

/** What brings ssh to a WebSocket; % begins a token in ssh_config(5). With asynchronous standard input websocat 1.13 stalls. */
function proxyCommand(target: ITarget): string {
  return `websocat --binary --no-async-stdio ${target.tunnel}`.replace(/%/g, '%%');
}

/** What sets up the `jhssh` command, a line each; empty where it would not find the gateway. */
export function setUpCommands({ tunnel }: ITarget): string {
  const [, hub, service = ''] = /^ws(s?:\/\/.+\/)services\/([\w.-]+)\/tunnel$/.exec(tunnel) ?? [];
  const name = service === 'ssh' ? '' : ` --service ${service}`;
  const login = `jhssh login ${quote(`http${hub}`)}${name}`;
  return hub ? ['pip install jhssh', login, 'jhssh config --write'].join('\n') : '';
}

export function sshCommand(target: ITarget): string {
  const proxy = target.tunnel ? ` -o ${quote(`ProxyCommand=${proxyCommand(target)}`)}` : '';
  const options = portOption(target, 'p') + proxy;
  return byOption(target)
    ? `ssh${options} -l ${quote(target.login)} ${target.host}`
    : `ssh${options} ${target.login}@${target.host}`;
}

export function sftpCommand(target: ITarget): string {
  if (target.tunnel) {
    return `sftp ${alias(target)}`;
  }
  const port = portOption(target, 'P');
  return byOption(target)
    ? `sftp${port} -o ${quote(`User="${target.login}"`)} ${bracketed(target.host)}`
    : `sftp${port} ${target.login}@${bracketed(target.host)}`;
}

/** Copies a folder to the server; the user puts in which. */
export function rsyncCommand(target: ITarget): string {
  if (target.tunnel) {
    return `rsync -a FOLDER ${alias(target)}:`;
  }
  const odd = byOption(target);
  const remote = `ssh${portOption(target, 'p')}${odd ? ` -l ${quote(target.login)}` : ''}`;
  const shell = remote === 'ssh' ? '' : ` -e ${odd ? `"${remote.replace(/["$`\\]/g, '\\$&')}"` : quote(remote)}`;
  const host = bracketed(target.host);
  return `rsync -a${shell} FOLDER ${odd ? host : `${target.login}@${host}`}:`;
}

/** The name under which the configuration block knows this server; plain, so that any tool takes it. */
export function alias(target: ITarget): string {
  return `${target.login}.${target.host}`.replace(/[^A-Za-z0-9.-]+/g, '-').replace(/^[-.]+/, '');
}

/** A block for ~/.ssh/config (ssh_config(5)). Through a tunnel, the other commands and the editors need it. */
export function configBlock(target: ITarget): string {
  const user = PLAIN_LOGIN.test(target.login) ? target.login : `"${target.login}"`;
  return [
    `Host ${alias(target)}`,
    `  HostName ${target.host}`,
    `  Port ${target.port}`,
    `  User ${user}`,
    '  ServerAliveInterval 30',
    ...(target.tunnel ? [`  ProxyCommand ${proxyCommand(target)}`] : [])
  ].join('\n');
}

/** A line for ~/.ssh/known_hosts (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"); empty where the key is not known. */
export function knownHostsLine(target: ITarget): string {
  const host = target.port === 22 ? target.host : `[${target.host}]:${target.port}`;
  return target.hostKey && `${host} ${target.hostKey}`;
}

export interface IEditor {
  name: string;
  url: string;
}

const VS_CODE_LIKE: readonly (readonly [name: string, scheme: string])[] = [
  ['VS Code', 'vscode'],
  ['Cursor', 'cursor'],
  ['Windsurf', 'windsurf'],
  ['Positron', 'positron'],
  ['VSCodium', 'vscodium']
];

/** Links that open an editor on the user's own machine, connected to this server. */
export function editors(target: ITarget): IEditor[] {
  const authority = vscodeAuthority(target);
  const path = target.folder ? target.folder.split('/').map(encodeURIComponent).join('/') : '';
  const made = VS_CODE_LIKE.map(([name, scheme]) => ({
    name,
    url: `${scheme}://vscode-remote/ssh-remote+${authority}${path || '/'}`
  }));
  return target.tunnel ? made : [...made, { name: 'JetBrains Gateway', url: jetBrainsLink(target) }];
}

/**
 * As JetBrains' help on remote development documents it. Without `idePath`, since the server need not have an IDE yet, Gateway
 * fills in its form for SSH connections and lets the user choose one; `deploy=true` would want the build number of an IDE.
 */
function jetBrainsLink({ host, port, login, folder }: ITarget): string {
  const query = Object.entries({ host, port, user: login, type: 'ssh', deploy: false, projectPath: folder })
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  return `jetbrains-gateway://connect#${query.join('&')}`;
}

/**
 * Remote-SSH's `user@host:port`. An authority is turned into lower case and split at @ and +, so that any other name goes as
 * the JSON that Remote-SSH and open-remote-ssh take in hexadecimal digits.
 */
function vscodeAuthority(target: ITarget): string {
  if (target.tunnel) {
    return hexadecimal({ hostName: alias(target) });
  }
  if (/^[a-z0-9][a-z0-9._-]*$/.test(target.login) && /^[a-z0-9.-]+$/.test(target.host)) {
    return `${target.login}@${target.host}:${target.port}`;
  }
  return hexadecimal({ hostName: target.host, user: target.login, port: target.port });
}

function hexadecimal(authority: Record<string, string | number>): string {
  const json = JSON.stringify(authority);
  return Array.from(new TextEncoder().encode(json), each => each.toString(16).padStart(2, '0')).join('');
}
