import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { fundAccount } from '../../src/embedded/index.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { askTerms, newPayer, openChain, sendPaid, settleOnChain } from '../helpers/payer.ts';
import { price, sell } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';

let instance: Instance;
let upstream: Upstream;
beforeAll(async () => {
  instance = await startInstance();
  upstream = await startUpstream((_request, response) => void response.writeHead(500).end());
}, 60_000);
afterAll(async () => {
  await upstream?.close();
  await instance?.stop();
}, 60_000);

it('an open payment of a payer that was suspended since is settled first where it can be given back', async () => {
  const sold = await sell(instance, upstream.url, 'suspended', { hosted: true });
  const url = `${sold.url}/paid`;
  const payer = await newPayer(instance, 10n * price);
  const terms = await askTerms(url);
  const open = await payer.pay(terms);
  expect((await sendPaid(url, open)).status).toBe(502);

  const to = privateKeyToAccount(generatePrivateKey()).address;
  const elsewhere = await payer.payWith(terms, { value: String(10n * price), to });
  upstream.behave((_request, response) => {
    void settleOnChain(instance, elsewhere).then(() => response.end('work'));
  });
  expect((await sendPaid(url, await payer.pay(terms))).json()).toMatchObject({ code: 'settlement_failed' });

  await fundAccount(instance.info.rpc_url, { address: payer.address, tokenAtomic: 10n * price });
  const before = await openChain(instance).balanceOf(payer.address);
  let paidFirst: boolean | undefined;
  upstream.behave((_request, response) => {
    void openChain(instance)
      .balanceOf(payer.address)
      .then((now) => {
        paidFirst = now === before - price;
        response.end('work');
      });
  });
  const again = await sendPaid(url, open);
  expect([again.status, again.text, paidFirst]).toEqual([200, 'work', true]);
  expect((await sendPaid(url, open)).text).toBe('work');
  expect(await openChain(instance).balanceOf(payer.address)).toBe(before - price);
}, 60_000);
