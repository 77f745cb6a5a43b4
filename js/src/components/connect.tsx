/** Commands to copy and links that open editors. */
import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import {
  configBlock,
  editors,
  knownHostsLine,
  rsyncCommand,
  setUpCommands,
  sftpCommand,
  sshCommand,
  type ITarget
} from '../connect';
import { CopyField } from './copyField';

interface IProps {
  target: ITarget | null;
  trans: TranslationBundle;
}

export function Connect({ target, trans }: IProps): JSX.Element {
  if (!target) {
    return (
      <p className="jhssh-Hint">
        {trans.__('The admin of this hub has not said yet under which address its SSH gateway is reached.')}
      </p>
    );
  }
  const known = knownHostsLine(target);
  const setUp = setUpCommands(target);
  return (
    <>
      {target.tunnel && (
        <>
          <p className="jhssh-Hint">
            {trans.__('Here SSH goes through HTTPS: by the jhssh command, or by websocat with what follows it.')}
          </p>
          {setUp && <CopyField label={trans.__('The jhssh command')} text={setUp} trans={trans} shape="block" />}
        </>
      )}
      <CopyField label={trans.__('Command')} text={sshCommand(target)} trans={trans} />
      <CopyField label={trans.__('Files, by sftp')} text={sftpCommand(target)} trans={trans} />
      <CopyField label={trans.__('A folder, by rsync')} text={rsyncCommand(target)} trans={trans} />
      <CopyField label={trans.__('For ~/.ssh/config')} text={configBlock(target)} trans={trans} shape="block" />
      {known && <CopyField label={trans.__('For ~/.ssh/known_hosts')} text={known} trans={trans} shape="line" />}
      <h3 className="jhssh-Subheading" id="jhssh-editors">
        {trans.__('Open in')}
      </h3>
      <ul className="jhssh-Editors" aria-labelledby="jhssh-editors">
        {editors(target).map(({ name, url }) => (
          <li key={name}>
            <a className="jhssh-Editor" href={url}>
              {name}
            </a>
          </li>
        ))}
      </ul>
    </>
  );
}
