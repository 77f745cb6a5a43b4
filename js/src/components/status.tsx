/** Is SSH on for this server; if not, why, and where that is changed. */
import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import type { IHub, IStatus } from '../tokens';

interface IProps {
  status: IStatus;
  hub: IHub | null;
  trans: TranslationBundle;
}

type Light = 'on' | 'wait' | 'off' | 'bad';

function light({ enabled, sshd }: IStatus): Light {
  if (!enabled) {
    return 'off';
  }
  if (sshd.state === 'running') {
    return 'on';
  }
  return sshd.state === 'failed' ? 'bad' : 'wait';
}

export function Status({ status, hub, trans }: IProps): JSX.Element {
  const now = light(status);
  const headline = {
    on: trans.__('SSH is on'),
    wait: trans.__('SSH is starting'),
    off: trans.__('SSH is off'),
    bad: trans.__('SSH does not work')
  }[now];
  const reason = now === 'on' ? '' : (status.sshd.reason ?? '');
  const { host, port, login_name, host_key_fingerprint, gateway_path } = status.connect;
  const { sessions } = status.sshd;
  const gatewayPage = hub && gateway_path ? hub.origin + gateway_path : '';
  const open = sessions === null ? gatewayPage && trans.__('Shown by the gateway') : trans.__('%1 open', sessions);
  return (
    <div className="jhssh-Status">
      <p className={`jhssh-Status-headline jhssh-mod-${now}`} role="status">
        <span className="jhssh-Status-light" aria-hidden="true" />
        {headline}
      </p>
      {reason && <p className="jhssh-Status-reason">{reason}</p>}
      {status.can_be_enabled && hub && (
        <p>
          <Link href={hub.home}>{trans.__('Stop and start this server')}</Link>
        </p>
      )}
      {status.enabled && (
        <dl className="jhssh-Facts">
          {host && !status.connect.tunnel_url && (
            <>
              <dt>{trans.__('Gateway')}</dt>
              <dd>{port === 22 ? host : `${host.includes(':') ? `[${host}]` : host}:${port}`}</dd>
            </>
          )}
          {login_name && (
            <>
              <dt>{trans.__('Login name')}</dt>
              <dd>{login_name}</dd>
            </>
          )}
          {host_key_fingerprint && (
            <>
              <dt>{trans.__('Host key')}</dt>
              <dd className="jhssh-Fingerprint">{host_key_fingerprint}</dd>
            </>
          )}
          {open && (
            <>
              <dt>{trans.__('Sessions')}</dt>
              <dd className="jhssh-mod-words">{gatewayPage ? <Link href={gatewayPage}>{open}</Link> : open}</dd>
            </>
          )}
        </dl>
      )}
    </div>
  );
}

/** To a page of the Hub, in a tab of its own. */
function Link({ href, children }: { href: string; children: React.ReactNode }): JSX.Element {
  return (
    <a className="jhssh-Link" href={href} target="_blank" rel="noopener noreferrer">
      {children}
    </a>
  );
}
