import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { type Environment, createOrganisation } from '../../server/src/accounts/index.ts';
import type { WriteContext } from '../../server/src/db/index.ts';
import { balanceOf } from '../../server/src/ledger/index.ts';
import { creditCurrency } from '../../server/src/x402/index.ts';
import { issueCredits, registerCreditKey } from '../../server/src/wallet/index.ts';
import { CheckFailed, type TicketOffice } from '../bench.ts';
import { askTerms, type Terms } from './payment-office.ts';

/** Each payer is a row that its payments change: with one payer all calls would wait for one lock. */
const payersUnderLoad = 1_000;
/** More than a payer spends in any run. */
const fundsAtomic = 10n ** 12n;
/** Within what the gateway takes. */
const validSeconds = 3_000;

interface Payer {
  environmentId: string;
  header: string;
  key: KeyObject;
}

/** Opens an office for ES256 payments in credits to one seller; what was charged is read from the seller's account in the ledger. */
export async function openCreditOffice(options: {
  url: string;
  headers: Readonly<Record<string, string>>;
  context: WriteContext;
  seller: Environment['id'];
  payers?: number;
}): Promise<TicketOffice> {
  const { context, seller, payers: payerCount = payersUnderLoad } = options;
  const payers: Payer[] = [];
  for (let index = 0; index < payerCount; index++) payers.push(await newPayer(context));
  const terms = await askTerms(options);
  const accepted = terms.accepts.find(({ network }) => network === 'credence:credits');
  if (!accepted) throw new CheckFailed(`${options.url} takes no credits`);
  const account = { environmentId: seller, kind: 'available', currency: creditCurrency('sandbox') } as const;
  const before = await balanceOf(context.db, account);
  let turn = 0;
  return {
    header: 'PAYMENT-SIGNATURE',
    async write(files, count) {
      const iat = Math.floor(Date.now() / 1000);
      for (const path of files) {
        const file = createWriteStream(path);
        for (let index = 0; index < Math.ceil(count / files.length); index++) {
          const payer = payers[turn++ % payers.length];
          if (payer && !file.write(`${signPayment(payer, { terms, accepted, iat })}\n`))
            await once(file, 'drain');
        }
        file.end();
        await once(file, 'close');
      }
    },
    async countCharged() {
      const { balance } = await balanceOf(context.db, account);
      return Number((balance - before.balance) / BigInt(accepted.amount));
    },
  };
}

async function newPayer(context: WriteContext): Promise<Payer> {
  const environment = await createOrganisation(context, 'A payer of the bench');
  await issueCredits(context, environment, { amount: fundsAtomic, key: environment.id, reason: 'a bench' });
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk: Record<string, unknown> = { ...publicKey.export({ format: 'jwk' }) };
  const scoped = { ...context, scope: environment.id };
  const { kid } = await registerCreditKey(scoped, environment.id, { jwk, name: '' });
  const header = encode({ alg: 'ES256', typ: 'credence-credit+jwt', kid });
  return { environmentId: environment.id, header, key: privateKey };
}

/** What a stock client with the scheme of the SDK would send. */
function signPayment(
  { environmentId, header, key }: Payer,
  offer: { terms: Terms; accepted: Terms['accepts'][number]; iat: number },
): string {
  const { terms, accepted, iat } = offer;
  const { resource, extensions } = terms;
  const claims = {
    payer: environmentId,
    payee: accepted.payTo,
    amount: accepted.amount,
    asset: accepted.asset,
    aud: accepted.extra?.['audience'],
    jti: randomBytes(16).toString('base64url'),
    iat,
    exp: iat + validSeconds,
  };
  const input = `${header}.${encode(claims)}`;
  const signature = sign('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' });
  const payload = { jws: `${input}.${signature.toString('base64url')}` };
  const payment = { x402Version: 2, payload, extensions, resource, accepted };
  return Buffer.from(JSON.stringify(payment)).toString('base64');
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
