/** The widget in the side bar: it tells the model when it is seen, and shows what the model knows. */
import type { IStateDB } from '@jupyterlab/statedb';
import type { ITranslator, TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget, refreshIcon, UseSignal } from '@jupyterlab/ui-components';
import type { Message } from '@lumino/messaging';
import * as React from 'react';
import { Connect } from './components/connect';
import { Keys } from './components/keys';
import { Section } from './components/section';
import { Status } from './components/status';
import { tunnelOf, type ITarget } from './connect';
import { sshIcon } from './icons';
import type { SSHModel } from './model';
import { PANEL_ID, type IHub, type IStatus } from './tokens';

const STATE_KEY = 'jhssh:folded';

export interface IPanelOptions {
  model: SSHModel;
  translator: ITranslator;
  state: IStateDB | null;
  /** null without a Hub */
  hub: IHub | null;
  folder: string;
}

/** How this server is reached; null while that is not known, and where SSH is off. */
export function targetOf(status: IStatus | null, folder: string): ITarget | null {
  if (!status?.enabled || !status.connect.login_name) {
    return null;
  }
  const { host, port, login_name, host_key } = status.connect;
  const tunnel = tunnelOf(status.connect.tunnel_url);
  if (tunnel) {
    // Where ssh goes, host and port are but names, by which it knows the host key.
    return {
      host: host || tunnel.hostname,
      port: 22,
      login: login_name,
      hostKey: host_key,
      folder,
      tunnel: tunnel.href
    };
  }
  return host ? { host, port: port || 22, login: login_name, hostKey: host_key, folder, tunnel: '' } : null;
}

export class SSHPanelWidget extends ReactWidget {
  private readonly _trans: TranslationBundle;
  private _folded: string[] = [];
  private _restored = false;
  private _field: HTMLElement | null = null;
  private _fieldWanted = false;

  constructor(private readonly _options: IPanelOptions) {
    super();
    this._trans = _options.translator.load('jhssh');
    this.id = PANEL_ID;
    this.addClass('jhssh-Panel');
    this.title.icon = sshIcon;
    this.title.caption = this._trans.__('SSH: keys and how to connect');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', this._trans.__('SSH'));
  }

  /** The next time that the panel is activated, the cursor goes into the field for a new key, once that is there. */
  wantKeyField(): void {
    this._fieldWanted = true;
    this._fold('keys', false);
  }

  protected override onActivateRequest(msg: Message): void {
    super.onActivateRequest(msg);
    this._focusField();
  }

  protected override onAfterAttach(msg: Message): void {
    super.onAfterAttach(msg);
    this._see(this.isVisible);
  }

  protected override onAfterShow(msg: Message): void {
    super.onAfterShow(msg);
    this._see(true);
  }

  protected override onBeforeHide(msg: Message): void {
    super.onBeforeHide(msg);
    this._see(false);
  }

  protected override onBeforeDetach(msg: Message): void {
    this._see(false);
    super.onBeforeDetach(msg);
  }

  protected override render(): JSX.Element {
    return <UseSignal signal={this._options.model.changed}>{() => this._content()}</UseSignal>;
  }

  private _focusField(): void {
    if (this._fieldWanted && this._field) {
      this._fieldWanted = false;
      this._field.focus();
    }
  }

  private _keepField = (field: HTMLElement | null): void => {
    this._field = field;
    this._focusField();
  };

  private _content(): JSX.Element {
    const { model, hub, folder } = this._options;
    const trans = this._trans;
    const { status, store, error } = model;
    return (
      <>
        <div className="jhssh-Header">
          <h1 className="jhssh-Title">{trans.__('SSH')}</h1>
          <button
            type="button"
            className="jhssh-IconButton"
            title={trans.__('Refresh')}
            aria-label={trans.__('Refresh')}
            onClick={() => void model.refresh()}
          >
            <refreshIcon.react tag="span" elementSize="normal" />
          </button>
        </div>
        {error && (
          <p className="jhssh-Message jhssh-mod-bad jhssh-mod-wide" role="alert">
            {error}
          </p>
        )}
        {!status && !error && <p className="jhssh-Hint jhssh-mod-wide">{trans.__('Asking the server…')}</p>}
        {status && <Status status={status} hub={hub} trans={trans} />}
        {status?.enabled && (
          <Section id="connect" title={trans.__('Connect')} {...this._folding('connect')}>
            <Connect target={targetOf(status, folder)} trans={trans} />
          </Section>
        )}
        {store && (
          <Section
            id="keys"
            title={store.keys.length ? trans.__('Keys (%1)', store.keys.length) : trans.__('Keys')}
            {...this._folding('keys')}
          >
            <Keys model={model} trans={trans} fieldRef={this._keepField} />
          </Section>
        )}
      </>
    );
  }

  private _folding(section: string): { open: boolean; onToggle(open: boolean): void } {
    return { open: !this._folded.includes(section), onToggle: open => this._fold(section, !open) };
  }

  private _fold(section: string, folded: boolean): void {
    if (folded !== this._folded.includes(section)) {
      this._folded = folded ? [...this._folded, section] : this._folded.filter(each => each !== section);
      void this._options.state?.save(STATE_KEY, this._folded);
      this.update();
    }
  }

  private _see(seen: boolean): void {
    if (seen && !this._restored) {
      this._restored = true;
      void this._restore();
    }
    this._options.model.setShown(seen);
  }

  /** What was folded before the page was loaded anew. */
  private async _restore(): Promise<void> {
    const saved = await this._options.state?.fetch(STATE_KEY);
    if (Array.isArray(saved)) {
      this._folded = saved.filter((each): each is string => typeof each === 'string');
      this.update();
    }
  }
}
