/** What the panel shows, and when the server is asked: only while somebody looks. Knows no widget. */
import type { IDisposable } from '@lumino/disposable';
import { Signal, type ISignal } from '@lumino/signaling';
import type { IApi, IKeyStore, IPublicKey, IStatus, Provider } from './tokens';

export const POLL_INTERVAL = 30_000;
export const UNDO_TIME = 20_000;

export class SSHModel implements IDisposable {
  private _changed = new Signal<this, void>(this);
  private _status: IStatus | null = null;
  private _store: IKeyStore | null = null;
  private _error = '';
  private _removed = new Map<IPublicKey, number>();
  private _timer = 0;
  private _shown = false;
  private _disposed = false;
  private _asked = 0;

  constructor(private readonly api: IApi) {
    document.addEventListener('visibilitychange', this._follow);
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get status(): IStatus | null {
    return this._status;
  }

  get store(): IKeyStore | null {
    return this._store;
  }

  /** Why the last look at the server failed; empty if it did not. */
  get error(): string {
    return this._error;
  }

  /** Keys that were removed, the last one first, while that can be undone. */
  get removed(): IPublicKey[] {
    return [...this._removed.keys()].reverse();
  }

  get isDisposed(): boolean {
    return this._disposed;
  }

  dispose(): void {
    if (!this._disposed) {
      this._disposed = true;
      document.removeEventListener('visibilitychange', this._follow);
      window.clearInterval(this._timer);
      this._removed.forEach(timer => window.clearTimeout(timer));
      Signal.clearData(this);
    }
  }

  /** Whether the panel can be seen in its window. */
  setShown(shown: boolean): void {
    this._shown = shown;
    this._follow();
  }

  /** Asks the server anew; a later look that is answered earlier wins. Never throws: `error` says what went wrong. */
  async refresh(): Promise<void> {
    const asked = ++this._asked;
    try {
      const [status, store] = await Promise.all([this.api.status(), this.api.keys()]);
      if (asked === this._asked) {
        [this._status, this._store, this._error] = [status, store, ''];
        this._forgetReturned(store);
      }
    } catch (error) {
      if (asked === this._asked) {
        this._error = (error as Error).message;
      }
    }
    this._tell();
  }

  /** Rejects with the server's sentence. */
  async add(text: string): Promise<IPublicKey[]> {
    const added = await this.api.add(text);
    await this.refresh();
    return added;
  }

  async importFrom(provider: Provider, user: string): Promise<IPublicKey[]> {
    const added = await this.api.importFrom(provider, user);
    await this.refresh();
    return added;
  }

  /** Removed at once, so that a page that is closed keeps no key alive; `undo` adds it again. */
  async remove(key: IPublicKey): Promise<void> {
    await this.api.remove(key.fingerprint);
    this._offerUndo(key);
    await this.refresh();
  }

  /** Where it fails, it can be tried again. */
  async undo(key: IPublicKey): Promise<void> {
    window.clearTimeout(this._removed.get(key));
    try {
      await this.api.add(key.public_key);
      this._removed.delete(key);
    } catch (error) {
      this._offerUndo(key);
      throw error;
    }
    await this.refresh();
  }

  private _offerUndo(key: IPublicKey): void {
    const end = (): void => {
      this._removed.delete(key);
      this._tell();
    };
    this._removed.set(key, window.setTimeout(end, UNDO_TIME));
  }

  /** What is there again, however it came, is not to be undone. */
  private _forgetReturned({ keys }: IKeyStore): void {
    const there = new Set(keys.map(each => each.fingerprint));
    for (const [key, timer] of this._removed) {
      if (there.has(key.fingerprint)) {
        window.clearTimeout(timer);
        this._removed.delete(key);
      }
    }
  }

  private _follow = (): void => {
    const look = this._shown && !document.hidden;
    if (look && !this._timer) {
      this._timer = window.setInterval(() => void this.refresh(), POLL_INTERVAL);
      void this.refresh();
    } else if (!look && this._timer) {
      window.clearInterval(this._timer);
      this._timer = 0;
    }
  };

  private _tell(): void {
    if (!this._disposed) {
      this._changed.emit();
    }
  }
}
