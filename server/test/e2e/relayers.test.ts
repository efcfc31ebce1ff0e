import { privateKeyToAccount } from 'viem/accounts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { networks } from '../../src/x402/index.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { send } from '../helpers/request.ts';

const operatorKey = 'an-operator-key-of-forty-characters-long';
const network = networks.sandbox.id;
const privateKey = `0x${'4d'.repeat(32)}` as const;
const imported = privateKeyToAccount(privateKey).address;

let instance: Instance;
let api: string;
beforeAll(async () => {
  instance = await startInstance({ env: { CREDENCE_OPERATOR_KEY: operatorKey } });
  api = instance.info.api_url;
}, 60_000);
afterAll(async () => {
  await instance?.stop();
}, 60_000);

const json = { 'content-type': 'application/json' };
const asOperator = { authorization: `Bearer ${operatorKey}` };
const list = (headers: Record<string, string> = asOperator) => send(`${api}/v1/relayers`, { headers });
const post = (path: string, body: unknown = {}, headers: Record<string, string> = asOperator) =>
  send(`${api}${path}`, {
    method: 'POST',
    headers: { ...json, ...headers },
    body: JSON.stringify(body),
  });

interface View {
  address: string;
  active: boolean;
  configured: boolean;
  native_balance: string;
  balance_low: boolean;
  next_nonce: number;
  unmined_transactions: number;
}
const relayers = async () => (await list()).json().data as View[];

describe("the operator's relayers", () => {
  it('are shown to whoever has the key, in either header, and in development to its principal', async () => {
    const ways: Record<string, string>[] = [asOperator, { 'x-api-key': operatorKey }, {}];
    for (const headers of ways) {
      const answer = await list(headers);
      expect(answer.status).toBe(200);
      expect(answer.json().data).toMatchObject([
        { network, active: true, configured: true, balance_low: false, unmined_transactions: 0 },
      ]);
    }
  });

  it.each<[string, () => Record<string, string>, number]>([
    ['an API key', () => ({ 'x-api-key': instance.info.api_key }), 403],
    ['another key', () => ({ authorization: `Bearer ${operatorKey}r` }), 401],
    ['a part of the key', () => ({ authorization: `Bearer ${operatorKey.slice(0, -1)}` }), 401],
    ['a request from elsewhere', () => ({ 'x-forwarded-for': '10.0.0.1' }), 401],
  ])('are not shown to %s', async (_what, headers, status) => {
    expect((await list(headers())).status).toBe(status);
  });

  it('are no door to what belongs to an environment', async () => {
    expect((await send(`${api}/v1/servers`, { headers: asOperator })).status).toBe(403);
  });

  it('are imported or made here, and no answer, log or audit event has a key', async () => {
    const given = await post('/v1/relayers', { network, private_key: privateKey });
    expect(given.status).toBe(201);
    expect(given.json()).toMatchObject({
      address: imported,
      active: true,
      configured: false,
      native_balance: '0',
      balance_low: true,
    });
    const made = await post('/v1/relayers', { network });
    expect(made.status).toBe(201);
    expect(await relayers()).toHaveLength(3);
    const everything = [given.text, made.text, (await list()).text, instance.output()].join('\n');
    expect(everything).not.toContain('4d4d4d4d');
  });

  it.each<[string, unknown, number]>([
    ['an account that is one', { network, private_key: privateKey }, 409],
    ['zero as a key', { network, private_key: `0x${'00'.repeat(32)}` }, 400],
    ['a key above the order', { network, private_key: `0x${'ff'.repeat(32)}` }, 400],
    ['half a key', { network, private_key: '0x1234' }, 400],
    ['a chain that this instance is not on', { network: 'eip155:1' }, 400],
    ['another member', { network, active: true }, 400],
  ])('are not made of %s', async (_what, body, status) => {
    expect((await post('/v1/relayers', body)).status).toBe(status);
    expect(await relayers()).toHaveLength(3);
  });

  it('are switched off and on, by any spelling of the address', async () => {
    const off = await post(`/v1/relayers/${imported.toLowerCase()}/deactivate`);
    expect(off.json().data).toMatchObject([{ address: imported, active: false }]);
    expect((await relayers()).find(({ address }) => address === imported)?.active).toBe(false);
    const on = await post(`/v1/relayers/${imported}/reactivate`, { network });
    expect(on.json().data).toMatchObject([{ address: imported, active: true }]);
    expect((await post(`/v1/relayers/${imported}/deactivate`, { network: 'eip155:1' })).status).toBe(404);
    expect((await post('/v1/relayers/nobody/deactivate')).status).toBe(404);
  });
});
