import { randomSecret } from '../kernel/crypto.ts';
import { AppError } from '../kernel/errors.ts';
import { limits } from '../kernel/limits.ts';
import type { CreditKeys } from '../wallet/index.ts';
import {
  type Chain,
  creditsRail,
  type CreditTerms,
  type CreditVerifier,
  exactRail,
  paymentRequired,
  paymentRequiredV1,
  type Rail,
  type Settler,
  type Terms,
} from '../x402/index.ts';
import type { MatchedCall } from './matched-call.ts';
import type { SentPayment } from './payment-header.ts';
import type { Offer } from './respond.ts';

/** What a price is asked and paid with. */
export interface TermsDeps {
  gatewayUrl: string;
  chains: ReadonlyMap<string, { chain: Chain; settler: Settler }>;
  creditKeys: CreditKeys;
  verifyCredit: CreditVerifier;
}

/** What the call costs on its server's chain. Throws `unavailable` where its seller has no wallet there. */
export function termsOf({ published, endpoint }: MatchedCall): Terms {
  if (published.payTo === undefined)
    throw new AppError('unavailable', 'The seller of this API cannot be paid at the moment');
  return {
    network: published.network,
    amount: endpoint.price,
    payTo: published.payTo,
    maxTimeoutSeconds: limits.paymentTimeoutSeconds,
  };
}

/**
 * Each 402 has a secret of its own: whoever echoes it with the payment may fetch the paid answer again. Version 1 has no
 * place for it.
 */
export function offerOf(
  deps: TermsDeps,
  matched: MatchedCall,
  terms: Terms,
  error: string | undefined,
): Offer {
  const { server } = matched.published;
  const resource = {
    url: resourceUrlOf(deps, matched),
    description: matched.endpoint.description || server.name,
  };
  return {
    v1: paymentRequiredV1({ terms, resource, method: matched.method, error }),
    v2: paymentRequired({
      terms,
      creditTerms: creditTermsOf(deps, matched),
      resource,
      termsSecret: randomSecret(16),
      error,
    }),
  };
}

/** What is called, without its query; where that is too long for a header, the endpoint that it is under. */
function resourceUrlOf(
  { gatewayUrl }: Pick<TermsDeps, 'gatewayUrl'>,
  { published, endpoint, path }: MatchedCall,
): string {
  const named = path.length <= limits.offeredPathBytes ? path : endpoint.publicPath;
  return `${gatewayUrl}/api/${published.server.slug}${named}`;
}

/** Whether a payer says that it pays for another path than the one it calls. Hosts have many names, and aren't compared. */
export function isForOtherPath(
  deps: Pick<TermsDeps, 'gatewayUrl'>,
  matched: MatchedCall,
  { payment }: SentPayment,
): boolean {
  const { resourceUrl } = payment;
  return resourceUrl !== null && pathOf(resourceUrl) !== pathOf(resourceUrlOf(deps, matched));
}

function pathOf(url: string): string {
  return url.replace(/^https?:\/\/[^/?#]*/i, '').replace(/[?#].*$/s, '');
}

/** What the call costs in credits of this instance, where its seller has an account for them. */
function creditTermsOf(deps: TermsDeps, { published, endpoint }: MatchedCall): CreditTerms | undefined {
  if (published.creditCurrency === undefined) return undefined;
  return {
    currency: published.creditCurrency,
    amount: endpoint.price,
    payTo: published.server.environmentId,
    audience: deps.gatewayUrl,
    maxTimeoutSeconds: limits.paymentTimeoutSeconds,
  };
}

/** A payment goes by the rail that its payer chose. */
export async function railOf(
  deps: TermsDeps,
  matched: MatchedCall,
  terms: Terms,
  { payment }: SentPayment,
): Promise<Rail> {
  if (!('credit' in payment)) return exactRail({ ...getChain(deps, terms), terms, sent: payment });
  const { credit } = payment;
  const key = await deps.creditKeys.find(credit.payer, credit.header.kid);
  return creditsRail({
    sent: credit,
    terms: creditTermsOf(deps, matched),
    key,
    isSignedBy: deps.verifyCredit,
  });
}

function getChain(deps: TermsDeps, terms: Terms): { chain: Chain; settler: Settler } {
  const found = deps.chains.get(terms.network.id);
  if (!found) throw new AppError('unavailable', `This server has no connection to ${terms.network.id}`);
  return found;
}
