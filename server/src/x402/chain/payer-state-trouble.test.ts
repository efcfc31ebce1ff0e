import { describe, expect, it } from 'vitest';
import { ChainUnavailableError } from './json-rpc.ts';
import {
  answerEach,
  type Answering,
  answerWell,
  anyone,
  closeRpcs,
  poor,
  read,
  startRpc,
  word,
} from './payer-state.fixture.ts';

describe('an RPC', () => {
  it('that drops the connection is asked once more', async () => {
    const rpc = await startRpc((batch, request) => {
      if (rpc.batches.length > 1) return answerWell(batch);
      request.socket.destroy();
      return undefined;
    });
    expect(await read(rpc)(...anyone())).toMatchObject(poor);
    expect(rpc.batches).toHaveLength(2);
  });

  it('that drops it again is unavailable', async () => {
    const rpc = await startRpc((_batch, request) => void request.socket.destroy());
    await expect(read(rpc)(...anyone())).rejects.toThrow(ChainUnavailableError);
    expect(rpc.batches).toHaveLength(2);
  });

  it('that is not there is unavailable', async () => {
    const rpc = await startRpc(answerWell);
    closeRpcs();
    await expect(read(rpc)(...anyone())).rejects.toThrow(ChainUnavailableError);
  });

  it('that does not answer in five seconds is unavailable, and to those who waited for their turn', async () => {
    const rpc = await startRpc(() => undefined);
    const ask = read(rpc);
    const states = await Promise.allSettled(Array.from({ length: 450 }, () => ask(...anyone())));
    const reasons = states.map((state) => (state.status === 'rejected' ? String(state.reason) : 'answered'));
    expect(new Set(reasons)).toEqual(
      new Set([
        'ChainUnavailableError: the RPC gave no answer within 5000 ms',
        'ChainUnavailableError: no request was free within 5000 ms',
      ]),
    );
    expect(rpc.batches).toHaveLength(4);
  }, 9_000);

  it.each<[string, Answering]>([
    [
      'an error for the whole batch',
      () => ({ id: null, error: { code: -32_600, message: 'batch too large' } }),
    ],
    ['no JSON', (_batch, _request, response) => void response.end('<html>')],
    ['null', () => null],
    [
      'status 429',
      (batch, _request, response) => void response.writeHead(429).end(JSON.stringify(answerWell(batch))),
    ],
    [
      'errors',
      (batch) => batch.map(({ id }) => ({ id, error: { code: -32_000, message: 'header not found' } })),
    ],
    ['nothing', () => []],
    ['nulls', (batch) => batch.map(() => null)],
    ['other ids', (batch) => answerWell(batch).map((answer) => ({ ...answer, id: answer.id + 100 }))],
    ['no views', (batch) => answerWell(batch).slice(1)],
    ['no look for code', (batch) => answerWell(batch).slice(0, 1)],
    ['no bytes', (batch) => batch.map(({ id }) => ({ id, result: '0x' }))],
    ['a byte', (batch) => batch.map(({ id }) => ({ id, result: '0x00' }))],
    ['a word', (batch) => batch.map(({ id }) => ({ id, result: word(2n) }))],
    ['failed views', (batch) => answerEach(batch, () => undefined)],
    [
      'half an answer',
      (batch) => answerWell(batch).map((one) => ({ ...one, result: one.result.slice(0, -64) })),
    ],
    [
      'two for the state of the nonce',
      (batch) => answerEach(batch, ({ kind }) => (kind === 'code' ? false : 2n)),
    ],
    [
      'an endless body',
      (batch, _request, response) =>
        void response.end(' '.repeat(2 * 1024 * 1024) + JSON.stringify(answerWell(batch))),
    ],
  ])('that answers %s is unavailable, and not asked again', async (_what, answering) => {
    const rpc = await startRpc(answering);
    await expect(read(rpc)(...anyone())).rejects.toThrow(ChainUnavailableError);
    expect(rpc.batches).toHaveLength(1);
  });

  it('that fails one view fails its question alone', async () => {
    const broken = anyone();
    const rpc = await startRpc((batch) =>
      answerEach(batch, (part) => {
        if (part.kind === 'code') return false;
        if (part.kind === 'balance') return 7n;
        return part.nonce === broken[1] ? undefined : 0n;
      }),
    );
    const ask = read(rpc);
    const [first, second] = await Promise.allSettled([ask(...anyone()), ask(...broken)]);
    expect(first).toMatchObject({ status: 'fulfilled', value: poor });
    expect(second).toMatchObject({
      status: 'rejected',
      reason: expect.any(ChainUnavailableError) as unknown,
    });
  });

  it('is asked at its path, with the key and the password of its URL', async () => {
    const rpc = await startRpc(answerWell);
    const url = rpc.url.replace('http://', 'http://user:p%40ss@');
    await read({ ...rpc, url: `${url}/v2/key?plan=1` })(...anyone());
    expect(rpc.headers[0]).toMatchObject({
      url: '/v2/key?plan=1',
      authorization: `Basic ${Buffer.from('user:p@ss').toString('base64')}`,
      'content-type': 'application/json',
    });
  });
});
