/** @jest-environment node */
import * as connect from '../src/connect';

const alice: connect.ITarget = {
  host: 'hub.example.org',
  port: 2222,
  login: 'alice',
  hostKey: 'ssh-ed25519 AAAA',
  folder: '/home/alice',
  tunnel: ''
};
const gpu = { ...alice, login: 'alice+gpu' };
const at = { ...alice, login: "o'neil@uni.edu" };
const usual = { ...alice, port: 22 };

describe('commands', () => {
  it('name port and named server', () => {
    expect(connect.sshCommand(alice)).toBe('ssh -p 2222 alice@hub.example.org');
    expect(connect.sshCommand(usual)).toBe('ssh alice@hub.example.org');
    expect(connect.sshCommand(gpu)).toBe('ssh -p 2222 alice+gpu@hub.example.org');
    expect(connect.sftpCommand(gpu)).toBe('sftp -P 2222 alice+gpu@hub.example.org');
    expect(connect.rsyncCommand(gpu)).toBe("rsync -a -e 'ssh -p 2222' FOLDER alice+gpu@hub.example.org:");
    expect(connect.rsyncCommand(usual)).toBe('rsync -a FOLDER alice@hub.example.org:');
  });

  it('give odd login names by an option, quoted', () => {
    expect(connect.sshCommand(at)).toBe("ssh -p 2222 -l 'o'\\''neil@uni.edu' hub.example.org");
    expect(connect.sftpCommand({ ...at, login: 'a b' })).toBe('sftp -P 2222 -o \'User="a b"\' hub.example.org');
    expect(connect.rsyncCommand({ ...at, login: 'a@b' })).toBe(
      'rsync -a -e "ssh -p 2222 -l a@b" FOLDER hub.example.org:'
    );
    expect(connect.sshCommand({ ...alice, login: '-oProxyCommand=x' })).toContain('-l -oProxyCommand=x');
  });
});

describe('configuration', () => {
  it('is a block that any tool takes', () => {
    expect(connect.configBlock(gpu)).toBe(
      [
        'Host alice-gpu.hub.example.org',
        '  HostName hub.example.org',
        '  Port 2222',
        '  User alice+gpu',
        '  ServerAliveInterval 30'
      ].join('\n')
    );
    expect(connect.configBlock(at)).toContain(`User "o'neil@uni.edu"`);
  });

  it('has the host key under the name that ssh looks for', () => {
    expect(connect.knownHostsLine(alice)).toBe('[hub.example.org]:2222 ssh-ed25519 AAAA');
    expect(connect.knownHostsLine(usual)).toBe('hub.example.org ssh-ed25519 AAAA');
    expect(connect.knownHostsLine({ ...alice, hostKey: '' })).toBe('');
  });
});

describe('through a tunnel', () => {
  const through = { ...gpu, port: 22, tunnel: 'wss://hub.example.org/a%20b/services/ssh/tunnel' };

  it('is a WebSocket of plain characters', () => {
    for (const url of [
      undefined,
      '',
      'https://hub/',
      'wss://',
      "wss://hub/'x",
      'wss://hub/ -o x',
      'wss://hub/$(x)',
      'wss://hub:65536/',
      'wss://1.2.3.4.5/',
      'wss://[::::]/',
      'javascript:x'
    ]) {
      expect(connect.tunnelOf(url)).toBeNull();
    }
    expect(connect.tunnelOf(through.tunnel)?.hostname).toBe('hub.example.org');
    expect(connect.tunnelOf('ws://[::1]:8000/services/ssh/tunnel')?.port).toBe('8000');
  });

  it('ssh has a program that brings it there', () => {
    const proxy = 'websocat --binary --no-async-stdio wss://hub.example.org/a%%20b/services/ssh/tunnel';
    expect(connect.sshCommand(through)).toBe(`ssh -o 'ProxyCommand=${proxy}' alice+gpu@hub.example.org`);
    expect(connect.sshCommand({ ...through, login: 'a b' })).toBe(
      `ssh -o 'ProxyCommand=${proxy}' -l 'a b' hub.example.org`
    );
    expect(connect.configBlock(through)).toContain(`\n  ProxyCommand ${proxy}`);
  });

  it('all else goes by the configuration', () => {
    expect(connect.sftpCommand(through)).toBe('sftp alice-gpu.hub.example.org');
    expect(connect.rsyncCommand(through)).toBe('rsync -a FOLDER alice-gpu.hub.example.org:');
    expect(connect.knownHostsLine(through)).toBe('hub.example.org ssh-ed25519 AAAA');
    const made = connect.editors(through);
    expect(made.map(each => each.name)).not.toContain('JetBrains Gateway');
    const hex = /ssh-remote\+([0-9a-f]+)\/home\/alice$/.exec(made[0]?.url ?? '')?.[1] ?? '';
    expect(JSON.parse(Buffer.from(hex, 'hex').toString())).toEqual({ hostName: 'alice-gpu.hub.example.org' });
  });

  it('the jhssh command is set up with the address of the hub', () => {
    const setUp = (tunnel: string): string => connect.setUpCommands({ ...through, tunnel });
    expect(setUp('wss://hub.example.org/b/services/ssh/tunnel')).toBe(
      'pip install jhssh\njhssh login https://hub.example.org/b/\njhssh config --write'
    );
    expect(setUp('ws://localhost:8000/services/gate/tunnel')).toContain(
      'jhssh login http://localhost:8000/ --service gate\n'
    );
    expect(setUp('wss://hub.example.org/elsewhere')).toBe('');
    expect(setUp('wss://hub.example.org/services/my%20ssh/tunnel')).toBe('');
  });
});

describe('links to editors', () => {
  const url = (target: connect.ITarget, name: string): string =>
    connect.editors(target).find(each => each.name === name)?.url ?? '';

  it('open VS Code and its kin in the folder of the server', () => {
    expect(url(alice, 'VS Code')).toBe('vscode://vscode-remote/ssh-remote+alice@hub.example.org:2222/home/alice');
    expect(url({ ...alice, folder: '' }, 'Cursor')).toBe(
      'cursor://vscode-remote/ssh-remote+alice@hub.example.org:2222/'
    );
  });

  it('carry names that an authority would garble in hexadecimal digits', () => {
    const hex = /ssh-remote\+([0-9a-f]+)\//.exec(url(gpu, 'Positron'))?.[1] ?? '';
    expect(JSON.parse(Buffer.from(hex, 'hex').toString())).toEqual({
      hostName: 'hub.example.org',
      user: 'alice+gpu',
      port: 2222
    });
  });

  it('escape what JetBrains Gateway is given', () => {
    expect(url(gpu, 'JetBrains Gateway')).toBe(
      'jetbrains-gateway://connect#host=hub.example.org&port=2222&user=alice%2Bgpu&type=ssh&deploy=false' +
        '&projectPath=%2Fhome%2Falice'
    );
    expect(url({ ...at, port: 22, folder: '' }, 'JetBrains Gateway')).toBe(
      "jetbrains-gateway://connect#host=hub.example.org&port=22&user=o'neil%40uni.edu&type=ssh&deploy=false"
    );
  });

  it.each(['VS Code', 'Cursor', 'Windsurf', 'Positron', 'VSCodium'])('name port and named server for %s', name => {
    const scheme = name.replace(' ', '').toLowerCase();
    expect(url(usual, name)).toBe(`${scheme}://vscode-remote/ssh-remote+alice@hub.example.org:22/home/alice`);
    expect(url({ ...alice, folder: '/home/alice/my work' }, name)).toMatch(/:2222\/home\/alice\/my%20work$/);
    const [, hex = '', path] = /ssh-remote\+([0-9a-f]+)(\/.*)$/.exec(url(gpu, name)) ?? [];
    expect(JSON.parse(Buffer.from(hex, 'hex').toString())).toMatchObject({ user: 'alice+gpu', port: 2222 });
    expect(path).toBe('/home/alice');
  });
});
