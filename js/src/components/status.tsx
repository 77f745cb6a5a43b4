/** Is SSH on for this server; if not, why, and where that is changed. */
import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import type { IStatus } from '../tokens';

interface IProps {
  status: IStatus;
  /** the Hub's page on which servers are stopped and started; empty without a Hub */
  homeUrl: string;
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

export function Status({ status, homeUrl, trans }: IProps): JSX.Element {
  const now = light(status);
  const headline = {
    on: trans.__('SSH is on'),
    wait: trans.__('SSH is starting'),
    off: trans.__('SSH is off'),
    bad: trans.__('SSH does not work')
  }[now];
  const reason = now === 'on' ? '' : (status.sshd.reason ?? '');
  const { host, port, login_name, host_key_fingerprint } = status.connect;
  return (
    <div className="jhssh-Status">
      <p className={`jhssh-Status-headline jhssh-mod-${now}`} role="status">
        <span className="jhssh-Status-light" aria-hidden="true" />
        {headline}
      </p>
      {reason && <p className="jhssh-Status-reason">{reason}</p>}
      {now === 'off' && homeUrl && (
        <p>
          <a className="jhssh-Link" href={homeUrl} target="_blank" rel="noopener noreferrer">
            {trans.__('Stop and start this server')}
          </a>
        </p>
      )}
      {status.enabled && (
        <dl className="jhssh-Facts">
          {host && (
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
        </dl>
      )}
    </div>
  );
}
