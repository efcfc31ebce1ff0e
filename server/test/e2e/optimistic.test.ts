import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fundAccount } from '../../src/embedded/index.ts';
import { limits } from '../../src/kernel/limits.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import {
  askTerms,
  decode,
  newPayer,
  openChain,
  type Payer,
  sendPaid,
  settleOnChain,
} from '../helpers/payer.ts';
import { price, sell, type Sold } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';

describe('an endpoint that lets its answers out before they are settled', { timeout: 60_000 }, () => {
  let instance: Instance;
  let upstream: Upstream;
  let sold: Sold;
  let url: string;

  beforeAll(async () => {
    instance = await startInstance();
    upstream = await startUpstream((_request, response) => response.end('work'));
    sold = await sell(instance, upstream.url, 'optimistic', { settlement: 'optimistic' });
    url = `${sold.url}/paid`;
  }, 60_000);
  afterAll(async () => {
    await setMining(true);
    await upstream?.close();
    await instance?.stop();
  }, 60_000);

  /** While the chain makes no blocks, nothing is settled. */
  const setMining = (on: boolean) =>
    openChain(instance).client.request({ method: 'evm_setAutomine', params: [on] } as never);
  const mine = () => openChain(instance).client.request({ method: 'evm_mine', params: [] } as never);
  const payFor = async (payer: Payer) => sendPaid(url, await payer.pay(await askTerms(url)));
  const earned = () => openChain(instance).balanceOf(sold.payTo);

  it('answers while the chain stands still, says so, and is paid once it moves', async () => {
    const payer = await newPayer(instance, price);
    const payment = await payer.pay(await askTerms(url));
    const before = await earned();
    upstream.requests.length = 0;
    await setMining(false);
    const answers = [await sendPaid(url, payment), await sendPaid(url, payment)];
    for (const answer of answers) {
      expect(answer).toMatchObject({ status: 200, text: 'work' });
      expect(decode(answer.headers['payment-response'])).toMatchObject({
        success: false,
        errorReason: 'settlement_pending',
      });
    }
    expect(await earned()).toBe(before);
    await setMining(true);
    await mine();
    await expect.poll(earned, { timeout: 20_000 }).toBe(before + price);
    await expect
      .poll(async () => decode((await sendPaid(url, payment)).headers['payment-response']).success, {
        timeout: 20_000,
      })
      .toBe(true);
    expect(upstream.requests).toHaveLength(1);
  });

  it('lets a payer owe no more than the limit: the next call waits for its settlement', async () => {
    const inDebt = Number(limits.owedAtomic.byPayer / price);
    const payer = await newPayer(instance, limits.owedAtomic.byPayer + price);
    const before = await earned();
    await setMining(false);
    const terms = await askTerms(url);
    const payments = await Promise.all(Array.from({ length: inDebt + 1 }, () => payer.pay(terms)));
    let answered = 0;
    const calls = payments.map(async (payment) => {
      const answer = await sendPaid(url, payment);
      answered += 1;
      return answer;
    });
    await expect.poll(() => answered, { timeout: 20_000 }).toBe(inDebt);
    await setMining(true);
    await mine();
    const settled = (await Promise.all(calls)).map(
      (answer) => decode(answer.headers['payment-response']).success as boolean,
    );
    expect(settled.filter((one) => one)).toHaveLength(1);
    await expect.poll(earned, { timeout: 20_000 }).toBe(before + limits.owedAtomic.byPayer + price);
  });

  it('takes nothing more from a payer whose payment turned out to be worth nothing', async () => {
    const payer = await newPayer(instance, price);
    const elsewhere = await payer.pay(await askTerms(url));
    upstream.behave((_request, response) => {
      void settleOnChain(instance, elsewhere).then(() => response.end('work'));
    });
    expect((await payFor(payer)).status).toBe(200);
    upstream.behave((_request, response) => response.end('work'));
    const stateOfIt = async () => {
      const listed = await fetch(`${instance.info.api_url}/v1/payments?payer=${payer.address}`);
      return ((await listed.json()) as { data: { state: string }[] }).data.map(({ state }) => state);
    };
    await expect.poll(stateOfIt, { timeout: 20_000 }).toEqual(['settlement_failed']);
    await fundAccount(instance.info.rpc_url, { address: payer.address, tokenAtomic: price });
    const refused = await sendPaid(url, await payer.pay(await askTerms(url)));
    expect([refused.status, refused.json().code]).toEqual([402, 'payer_suspended']);
  });
});
