import { POLL_INTERVAL, SSHModel, UNDO_TIME } from '../src/model';
import type { IApi, IPublicKey } from '../src/tokens';

const key = { fingerprint: 'SHA256:x', public_key: 'ssh-ed25519 AAAA x', comment: 'x' } as IPublicKey;

function fakeApi(): jest.Mocked<IApi> {
  return {
    status: jest.fn().mockResolvedValue({ enabled: true }),
    keys: jest.fn().mockResolvedValue({ keys: [key], ignored: [] }),
    add: jest.fn().mockResolvedValue([key]),
    importFrom: jest.fn().mockResolvedValue([key]),
    remove: jest.fn().mockResolvedValue(undefined)
  };
}

const settle = (): Promise<void> => jest.advanceTimersByTimeAsync(0).then(() => undefined);

describe('SSHModel', () => {
  let api: jest.Mocked<IApi>;
  let model: SSHModel;

  beforeEach(() => {
    jest.useFakeTimers();
    api = fakeApi();
    model = new SSHModel(api);
  });

  afterEach(() => {
    model.dispose();
    jest.useRealTimers();
  });

  it('asks nothing before it is shown, and nothing while it is hidden', async () => {
    await jest.advanceTimersByTimeAsync(3 * POLL_INTERVAL);
    expect(api.status).toHaveBeenCalledTimes(0);
    model.setShown(true);
    model.setShown(true);
    await jest.advanceTimersByTimeAsync(POLL_INTERVAL);
    expect(api.status).toHaveBeenCalledTimes(2);
    model.setShown(false);
    await jest.advanceTimersByTimeAsync(3 * POLL_INTERVAL);
    expect(api.status).toHaveBeenCalledTimes(2);
    expect(POLL_INTERVAL).toBeGreaterThanOrEqual(15_000);
  });

  it('stops when the page is hidden, and when it is disposed', async () => {
    const hidden = jest.spyOn(document, 'hidden', 'get').mockReturnValue(true);
    model.setShown(true);
    await settle();
    expect(api.status).toHaveBeenCalledTimes(0);
    hidden.mockReturnValue(false);
    document.dispatchEvent(new Event('visibilitychange'));
    await settle();
    expect(api.status).toHaveBeenCalledTimes(1);
    model.dispose();
    await jest.advanceTimersByTimeAsync(3 * POLL_INTERVAL);
    expect(api.status).toHaveBeenCalledTimes(1);
    hidden.mockRestore();
  });

  it('keeps what it knows when the server fails, and says why', async () => {
    await model.refresh();
    api.keys.mockRejectedValueOnce(new Error('The key store can’t be read.'));
    await model.refresh();
    expect(model.store?.keys).toEqual([key]);
    expect(model.error).toBe('The key store can’t be read.');
    await model.refresh();
    expect(model.error).toBe('');
  });

  it('removes at once and can bring each key back for some seconds', async () => {
    const other = { ...key, fingerprint: 'SHA256:y', public_key: 'ssh-ed25519 BBBB y' };
    api.keys.mockResolvedValue({ keys: [], ignored: [] });
    await model.remove(key);
    expect(api.remove).toHaveBeenCalledWith('SHA256:x');
    await jest.advanceTimersByTimeAsync(UNDO_TIME / 2);
    await model.remove(other);
    expect(model.removed).toEqual([other, key]);
    await model.undo(key);
    expect(api.add).toHaveBeenCalledWith('ssh-ed25519 AAAA x');
    expect(model.removed).toEqual([other]);
    await jest.advanceTimersByTimeAsync(UNDO_TIME);
    expect(model.removed).toEqual([]);
  });

  it('can be asked again to bring a key back when that failed', async () => {
    api.keys.mockResolvedValue({ keys: [], ignored: [] });
    await model.remove(key);
    api.add.mockRejectedValueOnce(new Error('No answer.'));
    await jest.advanceTimersByTimeAsync(UNDO_TIME - 1);
    await expect(model.undo(key)).rejects.toThrow('No answer.');
    await jest.advanceTimersByTimeAsync(UNDO_TIME - 1);
    expect(model.removed).toEqual([key]);
  });

  it('offers no undo for a key that was added again', async () => {
    api.keys.mockResolvedValueOnce({ keys: [], ignored: [] });
    await model.remove(key);
    expect(model.removed).toEqual([key]);
    await model.add(key.public_key);
    expect(model.removed).toEqual([]);
  });
});
