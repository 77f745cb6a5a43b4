/** The only caller of the server extension's REST API (docs/architecture.md, "Contracts"). */
import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import type { IApi, IKeyStore, IPublicKey, IStatus, Provider } from './tokens';

/** An answer that is no success: the sentence is the server's own, for the user. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly line = 0
  ) {
    super(message);
    this.name = 'ApiError';
  }
}

type Request = (path: string, init: RequestInit) => Promise<Response>;

/** A request as Lab makes them, with its token and XSRF cookie. */
export function serverRequest(settings: ServerConnection.ISettings): Request {
  return (path, init) => ServerConnection.makeRequest(URLExt.join(settings.baseUrl, path), init, settings);
}

export class Api implements IApi {
  constructor(
    private readonly request: Request,
    private readonly unreachable: string
  ) {}

  status(): Promise<IStatus> {
    return this.json('jhssh/status');
  }

  keys(): Promise<IKeyStore> {
    return this.json('publickey', { headers: { Accept: 'application/json' } });
  }

  async add(text: string): Promise<IPublicKey[]> {
    return (await this.post('publickey', { public_key: text })).keys;
  }

  async importFrom(provider: Provider, user: string): Promise<IPublicKey[]> {
    return (await this.post('jhssh/import', { provider, user })).keys;
  }

  async remove(fingerprint: string): Promise<void> {
    await this.send(`publickey/${encodeURIComponent(fingerprint)}`, { method: 'DELETE' });
  }

  private post(path: string, body: object): Promise<{ keys: IPublicKey[] }> {
    return this.json(path, { method: 'POST', body: JSON.stringify(body) });
  }

  private async json<T>(path: string, init: RequestInit = {}): Promise<T> {
    const response = await this.send(path, init);
    try {
      return (await response.json()) as T;
    } catch {
      throw new ApiError(response.status, 'ERROR', this.unreachable);
    }
  }

  private async send(path: string, init: RequestInit): Promise<Response> {
    let response: Response;
    try {
      response = await this.request(path, init);
    } catch {
      throw new ApiError(0, 'UNREACHABLE', this.unreachable);
    }
    if (response.ok) {
      return response;
    }
    let found: { message?: unknown; code?: unknown; line?: unknown } = {};
    try {
      found = (await response.json()) ?? {};
    } catch {
      // A proxy's page in place of the server's answer: its text is not for the user.
    }
    throw new ApiError(
      response.status,
      typeof found.code === 'string' ? found.code : 'ERROR',
      typeof found.message === 'string' && found.message ? found.message : this.unreachable,
      typeof found.line === 'number' ? found.line : 0
    );
  }
}
