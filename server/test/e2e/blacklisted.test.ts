import type { Address } from 'viem';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { blacklist } from '../helpers/blacklist.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { askTerms, newPayer, openChain, sendPaid } from '../helpers/payer.ts';
import { price, sell, type Sold } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';

describe('an account that the token blacklists while the upstream works', { timeout: 60_000 }, () => {
  let instance: Instance;
  let upstream: Upstream;

  beforeAll(async () => {
    instance = await startInstance();
    upstream = await startUpstream(() => undefined);
  }, 60_000);
  afterAll(async () => {
    await upstream?.close();
    await instance?.stop();
  }, 60_000);

  const answerAfter = (account: Address) =>
    upstream.behave((_request, response) => {
      void blacklist(instance.info.rpc_url, account).then(() => response.end('work'));
    });

  /** Which refusal it gets, and how often the upstream was asked for it. */
  async function buy(sold: Sold, payer: Awaited<ReturnType<typeof newPayer>>): Promise<[string, number]> {
    const url = `${sold.url}/paid`;
    const before = upstream.requests.length;
    const answer = await sendPaid(url, await payer.pay(await askTerms(url)));
    return [answer.json().code, upstream.requests.length - before];
  }

  it('and that pays gets nothing, and is worked for no more', async () => {
    const sold = await sell(instance, upstream.url, 'honest');
    const payer = await newPayer(instance, 10n * price);
    answerAfter(payer.address);
    expect(await buy(sold, payer)).toEqual(['settlement_failed', 1]);
    expect(await buy(sold, payer)).toEqual(['payer_suspended', 0]);
    expect(await openChain(instance).balanceOf(payer.address)).toBe(10n * price);
  });

  it('and that is paid is no payer’s fault', async () => {
    const sold = await sell(instance, upstream.url, 'listed');
    const payer = await newPayer(instance, 10n * price);
    answerAfter(sold.payTo);
    expect(await buy(sold, payer)).toEqual(['settlement_failed', 1]);
    expect(await buy(sold, payer)).toEqual(['settlement_failed', 1]);
    expect(await openChain(instance).balanceOf(payer.address)).toBe(10n * price);
  });
});
