/** The keys that open this server, and the lines that do not. */
import type { TranslationBundle } from '@jupyterlab/translation';
import { closeIcon } from '@jupyterlab/ui-components';
import * as React from 'react';
import type { SSHModel } from '../model';
import type { IIgnoredLine, IPublicKey } from '../tokens';
import { AddKey } from './addKey';

/** The file that is only read. */
const USERS_OWN_FILE = 'authorized_keys';

interface IProps {
  model: SSHModel;
  trans: TranslationBundle;
  /** told of the field for a new key when it comes and goes */
  fieldRef: React.RefCallback<HTMLElement>;
}

export function Keys({ model, trans, fieldRef }: IProps): JSX.Element {
  const list = React.useRef<HTMLDivElement>(null);
  const [error, setError] = React.useState('');
  const store = model.store;
  const attempt = async (action: () => Promise<void>): Promise<void> => {
    setError('');
    try {
      await action();
    } catch (failed) {
      setError((failed as Error).message);
    }
  };
  return (
    <>
      <div ref={list} tabIndex={-1} className="jhssh-Keys">
        {store && store.keys.length === 0 && (
          <p className="jhssh-Hint">{trans.__('No key opens this server yet. Add the public key of your machine.')}</p>
        )}
        {store && store.keys.length > 0 && (
          <ul aria-label={trans.__('Keys that open this server')}>
            {store.keys.map(key => (
              <Key
                key={key.fingerprint}
                of={key}
                trans={trans}
                onRemove={() => void attempt(() => model.remove(key))}
              />
            ))}
          </ul>
        )}
      </div>
      <div role="status" className="jhssh-Removed">
        {model.removed.map(key => (
          <Removed
            key={key.fingerprint}
            of={key}
            trans={trans}
            onUndo={() => void attempt(() => model.undo(key))}
            list={list}
          />
        ))}
      </div>
      {error && (
        <p className="jhssh-Message jhssh-mod-bad" role="alert">
          {error}
        </p>
      )}
      {store && store.ignored.length > 0 && <Ignored lines={store.ignored} trans={trans} />}
      <AddKey model={model} trans={trans} fieldRef={fieldRef} />
    </>
  );
}

function nameOf(key: IPublicKey): string {
  return key.comment || key.fingerprint;
}

interface IRemovedProps {
  of: IPublicKey;
  trans: TranslationBundle;
  onUndo(): void;
  list: React.RefObject<HTMLElement>;
}

/** It takes the keyboard's focus from the button that went with the key, and leaves it to the list when it goes itself. */
function Removed({ of: key, trans, onUndo, list }: IRemovedProps): JSX.Element {
  const button = React.useRef<HTMLButtonElement>(null);
  React.useEffect(() => {
    const after = list.current;
    const isLost = (): boolean => document.activeElement === document.body;
    if (isLost()) {
      button.current?.focus();
    }
    return () => {
      if (isLost()) {
        after?.focus({ preventScroll: true });
      }
    };
  }, [list]);
  return (
    <p className="jhssh-Undo">
      <span>{trans.__('Removed %1.', nameOf(key))}</span>
      <button
        ref={button}
        type="button"
        className="jp-mod-styled jp-mod-reject jhssh-Button"
        aria-label={trans.__('Undo the removal of %1', nameOf(key))}
        onClick={onUndo}
      >
        {trans.__('Undo')}
      </button>
    </p>
  );
}

interface IKeyProps {
  of: IPublicKey;
  trans: TranslationBundle;
  onRemove(): void;
}

function Key({ of: key, trans, onRemove }: IKeyProps): JSX.Element {
  const handWritten = key.source === USERS_OWN_FILE;
  return (
    <li className="jhssh-Key">
      <div className="jhssh-Key-head">
        <span className="jhssh-Key-name" title={key.comment}>
          {key.comment || trans.__('(no comment)')}
        </span>
        <span className="jhssh-Key-type">{shortType(key.type)}</span>
        {!handWritten && (
          <button
            type="button"
            className="jhssh-IconButton"
            title={trans.__('Remove')}
            aria-label={trans.__('Remove the key %1', nameOf(key))}
            onClick={onRemove}
          >
            <closeIcon.react tag="span" elementSize="normal" />
          </button>
        )}
      </div>
      <div className="jhssh-Fingerprint">{key.fingerprint}</div>
      <div className="jhssh-Key-origin">{origin(key, handWritten, trans)}</div>
    </li>
  );
}

/** `ed25519` of `ssh-ed25519`; what a security key holds is said to be one. */
function shortType(type: string): string {
  const plain = type
    .replace(/^sk-/, '')
    .replace(/^ssh-|@openssh\.com$|^ecdsa-sha2-/g, '')
    .replace(/^ssh-/, '');
  return type.startsWith('sk-') ? `${plain.replace('ecdsa-sha2-', '')} (security key)` : plain;
}

function origin(key: IPublicKey, handWritten: boolean, trans: TranslationBundle): string {
  if (handWritten) {
    return trans.__('In ~/.ssh/%1; remove it there', key.source);
  }
  if (!key.added) {
    return trans.__('In ~/.ssh/%1', key.source);
  }
  const when = new Date(key.added).toLocaleDateString(undefined, { dateStyle: 'medium' });
  return key.origin ? trans.__('Imported %1 from %2', when, key.origin) : trans.__('Added %1', when);
}

function Ignored({ lines, trans }: { lines: IIgnoredLine[]; trans: TranslationBundle }): JSX.Element {
  return (
    <details className="jhssh-Ignored">
      <summary>{trans._n('%1 line is ignored', '%1 lines are ignored', lines.length)}</summary>
      <ul>
        {lines.map(each => (
          <li key={`${each.source}:${each.line}`}>
            <strong>{each.line ? trans.__('%1, line %2', each.source, each.line) : each.source}</strong> {each.reason}
          </li>
        ))}
      </ul>
    </details>
  );
}
