/** A line or block of text with a button that copies it. */
import { Clipboard } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { checkIcon, copyIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

interface IProps {
  label: string;
  text: string;
  trans: TranslationBundle;
  /** `block`: of several lines; `line`: of one that is too long to be read */
  shape?: 'block' | 'line';
}

const SHOWN_FOR = 2000;

export function CopyField({ label, text, trans, shape }: IProps): JSX.Element {
  const [copied, setCopied] = React.useState(false);
  React.useEffect(() => {
    if (!copied) {
      return undefined;
    }
    const timer = window.setTimeout(() => setCopied(false), SHOWN_FOR);
    return () => window.clearTimeout(timer);
  }, [copied]);
  const Icon = copied ? checkIcon : copyIcon;
  return (
    <div className="jhssh-Copy">
      <span className="jhssh-Copy-label">{label}</span>
      <div className="jhssh-Copy-row">
        <code className={shape ? `jhssh-Copy-text jhssh-mod-${shape}` : 'jhssh-Copy-text'} title={text}>
          {text}
        </code>
        <button
          type="button"
          className="jhssh-IconButton"
          title={trans.__('Copy')}
          aria-label={trans.__('Copy: %1', label)}
          onClick={() => {
            Clipboard.copyToSystem(text);
            setCopied(true);
          }}
        >
          <Icon.react tag="span" elementSize="normal" />
        </button>
      </div>
      <span className="jhssh-visually-hidden" role="status">
        {copied ? trans.__('Copied') : ''}
      </span>
    </div>
  );
}
