import type { EnvironmentKind } from '../accounts/index.ts';
import { type Sql, write, type WriteContext } from '../db/index.ts';
import { AppError } from '../kernel/errors.ts';
import type { EnvironmentId } from '../kernel/ids.ts';
import { balanceOf, transfer } from '../ledger/index.ts';
import { creditCurrency } from '../x402/index.ts';

/** What an environment has in credits, in millionths. `held` is what calls under way have reserved; the rest can be spent. */
export interface Credits {
  currency: string;
  balance: bigint;
  held: bigint;
}

export async function findCredits(
  sql: Sql,
  environment: { id: EnvironmentId; kind: EnvironmentKind },
): Promise<Credits> {
  const currency = creditCurrency(environment.kind);
  const account = { environmentId: environment.id, kind: 'available', currency } as const;
  return { currency, ...(await balanceOf(sql, account)) };
}

/**
 * Gives credits out: a debt of the instance, in its account `issued`. The same key gives them once. Throws `conflict` where the
 * key was used for something else.
 */
export async function issueCredits(
  context: WriteContext,
  environment: { id: EnvironmentId; kind: EnvironmentKind },
  issue: { amount: bigint; key: string; reason: string },
): Promise<void> {
  const currency = creditCurrency(environment.kind);
  await write(context, async (sql, now) => {
    const result = await transfer(
      sql,
      {
        key: `issue/${issue.key}`,
        debit: { environmentId: 'instance', kind: 'issued' },
        credit: { environmentId: environment.id, kind: 'available' },
        currency,
        amount: issue.amount,
      },
      now,
    );
    if (result.kind === 'duplicate') return { result: undefined, audit: null };
    if (result.kind !== 'ok') throw new AppError('conflict', 'This key has issued other credits');
    const data = { currency, amount: issue.amount.toString(), reason: issue.reason };
    return {
      result: undefined,
      audit: { action: 'credits.issued', resource: environment.id, scope: environment.id, data },
    };
  });
}
