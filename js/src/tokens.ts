/** Ids and interfaces, without side effects: what the plugins and the REST API agree on. */
import { Token } from '@lumino/coreutils';

export const NAMESPACE = '@jhssh/labextension';
export const PANEL_ID = 'jhssh-panel';
export const KEY_FIELD_ID = 'jhssh-key-text';

export const CommandIDs = {
  open: 'jhssh:open',
  addKey: 'jhssh:add-key',
  copyCommand: 'jhssh:copy-connect-command'
} as const;

/** The JupyterHub that started this server, as browsers reach it. */
export interface IHub {
  /** `https://hub.example.org`; empty: where Lab is */
  origin: string;
  /** its page on which servers are stopped and started */
  home: string;
}

/** GET /jhssh/status */
export interface IStatus {
  enabled: boolean;
  /** SSH is off by the user's own choice */
  can_be_enabled: boolean;
  sshd: {
    implementation: string;
    state: string;
    host_keys: string[];
    /** how many are open; null where that is not known */
    sessions: number | null;
    reason?: string;
  };
  connect: {
    /** empty: the admin has not said under which name users reach the gateway */
    host: string;
    port: number;
    login_name: string;
    /** the gateway's public host key, `type base64`; empty where the admin has not said */
    host_key: string;
    host_key_fingerprint: string;
    /** of the gateway's page at the Hub's address; empty where there is none */
    gateway_path: string;
    /** the gateway's WebSocket, where users can't reach its port; else empty */
    tunnel_url: string;
  };
  version: string;
}

/** One entry of GET /publickey */
export interface IPublicKey {
  fingerprint: string;
  type: string;
  comment: string;
  public_key: string;
  /** ISO 8601, UTC; null for a line that was written by hand */
  added: string | null;
  /** name of the file in ~/.ssh */
  source: string;
  /** the account it was imported from, as `github.com/alice`; empty otherwise */
  origin: string;
}

/** A line of a key file that opens nothing. */
export interface IIgnoredLine {
  source: string;
  line: number;
  reason: string;
  fingerprint: string | null;
}

export interface IKeyStore {
  keys: IPublicKey[];
  ignored: IIgnoredLine[];
}

export type Provider = 'github' | 'gitlab';

/** What the panel needs of the server; api.ts is the one that asks it. */
export interface IApi {
  status(): Promise<IStatus>;
  keys(): Promise<IKeyStore>;
  add(text: string): Promise<IPublicKey[]>;
  importFrom(provider: Provider, user: string): Promise<IPublicKey[]>;
  remove(fingerprint: string): Promise<void>;
}

/** What other plugins can ask of the panel. */
export interface ISSHPanel {
  /** Brings the panel to the front. */
  open(): void;
  /** The same, with the cursor in the field for a new key. */
  addKey(): Promise<void>;
  /** `ssh …`; null where SSH is off or the gateway's address is not known. Asks the server if need be. */
  connectCommand(): Promise<string | null>;
}

export const ISSHPanel = new Token<ISSHPanel>(`${NAMESPACE}:ISSHPanel`, 'The SSH panel.');
