import type { Address } from 'viem';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import type { Instance } from './instance.ts';
import { type Answer, send } from './request.ts';

/** A published API, paid to an address that nobody else is paid to. */
export interface Sold {
  slug: string;
  serverId: string;
  /** On the gateway; an endpoint's path follows. */
  url: string;
  payTo: Address;
}

export const price = 10_000n;

/** Calls the control plane with JSON. Without a credential it acts as the development principal. */
export function callApi(
  instance: Instance,
  path: string,
  options: { method?: string; body?: unknown; credential?: string; headers?: Record<string, string> } = {},
): Promise<Answer> {
  const { body, credential } = options;
  return send(`${instance.info.api_url}${path}`, {
    method: options.method ?? (body === undefined ? 'GET' : 'POST'),
    headers: {
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(credential === undefined ? {} : { authorization: `Bearer ${credential}` }),
      ...options.headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
}

/**
 * Puts an upstream on sale as a seller does: `/paid` costs a cent, `/free` nothing, for any method. A hosted one is paid to the
 * environment's own wallet, which others are paid to as well.
 */
export async function sell(
  instance: Instance,
  upstreamUrl: string,
  slug: string,
  options: { settlement?: 'after_success' | 'optimistic' | 'upfront'; hosted?: true } = {},
): Promise<Sold> {
  const credential = instance.info.api_key;
  const { settlement, hosted } = options;
  const payTo = hosted
    ? (instance.info.wallet_address as Address)
    : privateKeyToAccount(generatePrivateKey()).address;
  const server = { name: slug, slug, base_url: upstreamUrl, ...(hosted ? {} : { pay_to: payTo }) };
  const { id } = await created(callApi(instance, '/v1/servers', { body: server, credential }));
  for (const endpoint of [
    { public_path: '/paid', private_path: '/v1/paid', price: '$0.01', settlement },
    { public_path: '/free', private_path: '/v1/free', price: '$0' },
  ]) {
    await created(callApi(instance, `/v1/servers/${id}/endpoints`, { body: endpoint, credential }));
  }
  const published = await callApi(instance, `/v1/servers/${id}/publish`, { body: {}, credential });
  if (published.status !== 200) throw new Error(`not published: ${published.text}`);
  return { slug, serverId: id, url: `${instance.info.gateway_url}/api/${slug}`, payTo };
}

async function created(call: Promise<Answer>): Promise<{ id: string }> {
  const answer = await call;
  if (answer.status !== 201) throw new Error(`not created: ${answer.status} ${answer.text}`);
  return answer.json() as { id: string };
}
