import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createRemoteKeys } from './issuer-keys.ts';

/** A real issuer, as far as this goes: its keys, and how often it was asked. */
let answer: { status: number; body: string; headers?: Record<string, string> };
let asked = 0;
const server = createServer((_request, response) => {
  asked += 1;
  response.writeHead(answer.status, answer.headers).end(answer.body);
});
let url = '';
let nowMs = 0;
const publish = (...kids: string[]) => {
  answer = { status: 200, body: JSON.stringify({ keys: kids.map((kid) => ({ kid, kty: 'OKP' })) }) };
};
const open = () => createRemoteKeys(url, { nowMs: () => nowMs });

beforeAll(async () => {
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`;
});
afterAll(() => server.close());
beforeEach(() => {
  asked = 0;
  nowMs = 1_000_000;
  publish('a');
});

describe("an issuer's keys", () => {
  it('are fetched once, by all who ask at once and after them', async () => {
    const find = open();
    const found = await Promise.all(Array.from({ length: 10 }, () => find('a')));
    expect(found.map((key) => key?.kid)).toEqual(Array.from({ length: 10 }, () => 'a'));
    nowMs += 299_999;
    await find('a');
    expect(asked).toBe(1);
  });

  it('are fetched again after five minutes, so that a dropped key is believed no longer', async () => {
    const find = open();
    await find('a');
    publish('b');
    nowMs += 300_000;
    expect(await find('a')).toBeUndefined();
    expect(asked).toBe(2);
  });

  it('are looked for once more for an unknown id, and not again for half a minute', async () => {
    const find = open();
    await find('a');
    publish('a', 'b');
    nowMs += 29_999;
    expect(await find('b')).toBeUndefined();
    expect(asked).toBe(1);
    nowMs += 1;
    expect(await Promise.all([find('b'), find('b'), find('made up')])).toMatchObject([
      { kid: 'b' },
      { kid: 'b' },
      undefined,
    ]);
    expect(asked).toBe(2);
    for (let index = 0; index < 20; index += 1) await find(`made up ${index}`);
    expect(asked).toBe(2);
  });

  it.each<[string, typeof answer]>([
    ['an error', { status: 500, body: '{"keys":[]}' }],
    ['no JSON', { status: 200, body: '<html>' }],
    ['no list of keys', { status: 200, body: '{}' }],
    ['nothing', { status: 200, body: 'null' }],
    ['a redirection', { status: 302, body: '', headers: { location: 'http://127.0.0.1:1/' } }],
  ])('that come as %s are a failure, which is told again for a second without asking', async (_what, bad) => {
    const find = open();
    answer = bad;
    await expect(find('a')).rejects.toThrow(Error);
    publish('a');
    await expect(find('a')).rejects.toThrow(Error);
    expect(asked).toBe(1);
    nowMs += 1_000;
    expect(await find('a')).toMatchObject({ kid: 'a' });
  });
});
