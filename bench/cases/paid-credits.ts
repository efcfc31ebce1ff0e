import { randomBytes } from 'node:crypto';
import type { WriteContext } from '../../server/src/db/index.ts';
import { systemClock } from '../../server/src/kernel/clock.ts';
import { createSecretBox } from '../../server/src/kernel/crypto.ts';
import type { EnvironmentId } from '../../server/src/kernel/ids.ts';
import type { Instance } from '../../server/test/helpers/instance.ts';
import type { Case, Contender, Stage } from '../bench.ts';
import { startCredence } from '../contenders/credence.ts';
import { openInstanceDatabase } from '../contenders/instance-database.ts';
import { openCreditOffice } from '../load/credit-office.ts';

export const paidCredits: Case = {
  name: 'paid-credits',
  title: 'A call paid with credits',
  notes: [
    'Network `credence:credits`: each call is verified (ES256), claimed with its amount reserved, forwarded, stored and charged before its answer is released: two durable commits a call, which concurrent calls share (fsync on). 1,000 payers, one seller, each payment used once, signed before the run.',
    'Checked in every run: the seller’s account in the ledger got the price times the calls answered with 2xx, to the last unit.',
    'No peer: none that we know of settles prepaid credits by x402.',
  ],
  connections: 64,
  threads: 1,
  rampSeconds: 2,
  windowSeconds: 10,
  drainSeconds: 2,
  warmUpSeconds: 5,
  start: startPaidCredits,
};

async function startPaidCredits(stage: Stage): Promise<Contender[]> {
  const { sold, instance, headers, roots } = await startCredence(stage, { hosted: true });
  const context = await openContext(stage, instance);
  const url = `${sold.url}/paid`;
  const seller = instance.info.environment_id as EnvironmentId;
  const tickets = await openCreditOffice({ url, headers, context, seller });
  return [{ name: 'Credence', url, headers, roots, tickets }];
}

/** What payers and their credits are written with, past the program. */
export async function openContext(stage: Stage, instance: Instance): Promise<WriteContext> {
  return {
    db: await openInstanceDatabase(stage, instance),
    clock: systemClock,
    // Nothing that is sealed is written here.
    box: createSecretBox(randomBytes(32)),
    actor: { kind: 'system', id: 'bench' },
    scope: 'instance',
    requestId: null,
    clientAddress: null,
  };
}
