/** Adds keys: pasted, chosen as files, or dropped; and imported from an account elsewhere. */
import type { TranslationBundle } from '@jupyterlab/translation';
import { HTMLSelect } from '@jupyterlab/ui-components';
import * as React from 'react';
import type { SSHModel } from '../model';
import { check, MAX_TEXT } from '../publicKeys';
import { sentence } from '../sentences';
import { KEY_FIELD_ID, type Provider } from '../tokens';

interface IProps {
  model: SSHModel;
  trans: TranslationBundle;
  /** told of the text field when it comes and goes */
  fieldRef: React.RefCallback<HTMLElement>;
}

/** What the form says below its field: an error, or that it worked. */
interface IMessage {
  text: string;
  bad: boolean;
}

export function AddKey({ model, trans, fieldRef }: IProps): JSX.Element {
  const [text, setText] = React.useState('');
  const [message, setMessage] = React.useState<IMessage | null>(null);
  const [busy, setBusy] = React.useState(false);
  const [over, setOver] = React.useState(false);
  const chooser = React.useRef<HTMLInputElement>(null);
  const field = React.useRef<HTMLTextAreaElement | null>(null);
  const keepField = React.useCallback(
    (found: HTMLTextAreaElement | null) => {
      field.current = found;
      fieldRef(found);
    },
    [fieldRef]
  );

  /** Runs what asks the server, and shows its sentence. */
  const attempt = async (action: () => Promise<number>): Promise<boolean> => {
    setBusy(true);
    setMessage(null);
    try {
      const count = await action();
      setMessage({ text: trans._n('%1 key added.', '%1 keys added.', count), bad: false });
      return true;
    } catch (error) {
      setMessage({ text: (error as Error).message, bad: true });
      return false;
    } finally {
      setBusy(false);
    }
  };

  const add = async (offered: string): Promise<void> => {
    const known = (model.store?.keys ?? []).map(each => each.public_key);
    const finding = check(offered, known);
    if (finding) {
      setMessage({ text: sentence(finding, trans), bad: true });
      return;
    }
    if (await attempt(async () => (await model.add(offered)).length)) {
      setText('');
    }
  };

  const addFiles = async (files: File[]): Promise<void> => {
    if (files.reduce((sum, each) => sum + each.size, 0) > MAX_TEXT) {
      setMessage({ text: sentence({ problem: 'large', line: 0 }, trans), bad: true });
      return;
    }
    const texts = await Promise.all(files.map(each => each.text()));
    await add(texts.join('\n'));
  };

  const onDrop = (event: React.DragEvent): void => {
    event.preventDefault();
    setOver(false);
    const files = [...event.dataTransfer.files];
    const dropped = event.dataTransfer.getData('text/plain');
    if (files.length) {
      void addFiles(files);
    } else if (dropped) {
      void add(dropped);
    }
  };

  return (
    <form
      className={over ? 'jhssh-Add jhssh-mod-over' : 'jhssh-Add'}
      aria-label={trans.__('Add public keys')}
      onSubmit={event => {
        event.preventDefault();
        // The button can't keep the focus: it is disabled once the field is empty.
        field.current?.focus();
        if (!busy) {
          void add(text);
        }
      }}
      onDragOver={event => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={onDrop}
    >
      <label className="jhssh-Label" htmlFor={KEY_FIELD_ID}>
        {trans.__('Add public keys')}
      </label>
      <textarea
        ref={keepField}
        id={KEY_FIELD_ID}
        className="jhssh-Add-text"
        rows={3}
        spellCheck={false}
        autoComplete="off"
        placeholder={trans.__('Paste a .pub file’s line, or drop the file here')}
        value={text}
        aria-invalid={message?.bad ?? false}
        aria-describedby="jhssh-add-message"
        onChange={event => {
          setText(event.target.value);
          setMessage(null);
        }}
      />
      <p
        id="jhssh-add-message"
        className={message?.bad ? 'jhssh-Message jhssh-mod-bad' : 'jhssh-Message'}
        role={message?.bad ? 'alert' : 'status'}
      >
        {message?.text}
      </p>
      <div className="jhssh-Buttons">
        <button
          type="submit"
          className="jp-mod-styled jp-mod-accept jhssh-Button"
          disabled={!text.trim()}
          aria-disabled={busy}
        >
          {trans.__('Add')}
        </button>
        <button
          type="button"
          className="jp-mod-styled jp-mod-reject jhssh-Button"
          aria-disabled={busy}
          onClick={() => !busy && chooser.current?.click()}
        >
          {trans.__('Choose files…')}
        </button>
      </div>
      <input
        ref={chooser}
        type="file"
        accept=".pub,.txt,text/plain"
        multiple
        hidden
        aria-label={trans.__('Public key files')}
        onChange={event => {
          const files = [...(event.target.files ?? [])];
          event.target.value = '';
          if (files.length) {
            void addFiles(files);
          }
        }}
      />
      <Import
        busy={busy}
        trans={trans}
        onImport={(...from) => attempt(async () => (await model.importFrom(...from)).length)}
      />
    </form>
  );
}

interface IImportProps {
  busy: boolean;
  trans: TranslationBundle;
  onImport(provider: Provider, user: string): Promise<boolean>;
}

function Import({ busy, trans, onImport }: IImportProps): JSX.Element {
  const [provider, setProvider] = React.useState<Provider>('github');
  const [user, setUser] = React.useState('');
  const field = React.useRef<HTMLInputElement>(null);
  const start = async (): Promise<void> => {
    if (user.trim() && !busy && (await onImport(provider, user.trim()))) {
      field.current?.focus(); // the button is disabled now
      setUser('');
    }
  };
  return (
    <div className="jhssh-Import" role="group" aria-labelledby="jhssh-import-label">
      <div className="jhssh-Import-row">
        <span className="jhssh-Label" id="jhssh-import-label">
          {trans.__('Import from')}
        </span>
        <HTMLSelect
          className="jhssh-Import-provider"
          aria-label={trans.__('Import from')}
          value={provider}
          onChange={event => setProvider(event.target.value as Provider)}
        >
          <option value="github">GitHub</option>
          <option value="gitlab">GitLab</option>
        </HTMLSelect>
      </div>
      <div className="jhssh-Import-row">
        <input
          ref={field}
          className="jp-mod-styled jhssh-Import-user"
          aria-label={trans.__('User name there')}
          placeholder={trans.__('User name there')}
          spellCheck={false}
          autoCapitalize="none"
          autoComplete="off"
          value={user}
          onChange={event => setUser(event.target.value)}
          onKeyDown={event => {
            if (event.key === 'Enter') {
              event.preventDefault();
              void start();
            }
          }}
        />
        <button
          type="button"
          className="jp-mod-styled jp-mod-reject jhssh-Button"
          disabled={!user.trim()}
          aria-disabled={busy}
          onClick={() => void start()}
        >
          {trans.__('Import')}
        </button>
      </div>
    </div>
  );
}
