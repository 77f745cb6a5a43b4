import { Api, ApiError } from '../src/api';

jest.mock('@jupyterlab/services', () => ({ ServerConnection: {} }));
jest.mock('@jupyterlab/coreutils', () => ({ URLExt: {} }));

const answer = (status: number, body: string): Response =>
  ({ ok: status < 300, status, json: async () => JSON.parse(body) }) as Response;

function asked(response: Response | Error): { api: Api; request: jest.Mock } {
  const request = jest.fn(async () => {
    if (response instanceof Error) {
      throw response;
    }
    return response;
  });
  return { api: new Api(request, 'No answer.'), request };
}

describe('Api', () => {
  it('asks what the contract says', async () => {
    const { api, request } = asked(answer(201, '{"keys": []}'));
    await api.add('ssh-ed25519 AAAA');
    expect(request).toHaveBeenLastCalledWith('publickey', {
      method: 'POST',
      body: '{"public_key":"ssh-ed25519 AAAA"}'
    });
    await api.importFrom('gitlab', 'alice');
    expect(request).toHaveBeenLastCalledWith('jhssh/import', {
      method: 'POST',
      body: '{"provider":"gitlab","user":"alice"}'
    });
    await api.remove('SHA256:a/b+c');
    expect(request).toHaveBeenLastCalledWith('publickey/SHA256%3Aa%2Fb%2Bc', { method: 'DELETE' });
  });

  it.each([
    [answer(409, '{"message": "Already there.", "code": "KEY_DUPLICATE"}'), 'KEY_DUPLICATE', 'Already there.', 0],
    [answer(422, '{"message": "Bad.", "code": "KEY_MALFORMED", "line": 2}'), 'KEY_MALFORMED', 'Bad.', 2],
    [answer(502, '<html>'), 'ERROR', 'No answer.', 0],
    [answer(500, 'null'), 'ERROR', 'No answer.', 0],
    [answer(201, '<html>'), 'ERROR', 'No answer.', 0],
    [new TypeError('fetch failed'), 'UNREACHABLE', 'No answer.', 0]
  ])('rejects with the server’s sentence, or one of its own', async (response, code, message, line) => {
    const error = await asked(response)
      .api.add('x')
      .catch((caught: ApiError) => caught);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ code, message, line });
  });
});
