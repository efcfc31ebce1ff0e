import { Type } from 'typebox';
import { limits } from '../kernel/limits.ts';
import { PaymentRequired, PaymentRequiredV1 } from '../x402/index.ts';

const AtomicAmount = Type.String({
  pattern: '^[1-9][0-9]{0,77}$',
  description: 'Atomic units as a decimal string: 10000 is 0.01 USDC',
});
const Time = Type.String({ format: 'date-time' });

/** In camelCase, as clients of agent wallets write mandates; the rest of the API is in snake_case. */
export const CreateIntentBody = Type.Object(
  {
    intent: Type.Object(
      {
        naturalLanguage: Type.String({
          minLength: 1,
          maxLength: 2000,
          description: 'What the agent wants to do, in words',
        }),
        limitAmount: AtomicAmount,
        validForSeconds: Type.Integer({ minimum: 1, maximum: limits.mandateValidSecondsMax }),
        currency: Type.Optional(Type.Literal('USDC')),
        category: Type.Optional(Type.String({ minLength: 1, maxLength: 100 })),
        hostAllowlist: Type.Optional(
          Type.Array(Type.String({ pattern: '^(?:\\*\\.)?[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?$' }), {
            maxItems: 100,
          }),
        ),
        maxAmountPerTx: Type.Optional(AtomicAmount),
      },
      { additionalProperties: false },
    ),
  },
  { additionalProperties: false },
);

const MandateStatus = Type.Union([
  Type.Literal('pending_signature'),
  Type.Literal('signed'),
  Type.Literal('exhausted'),
  Type.Literal('expired'),
]);

export const CreatedIntent = Type.Object({
  id: Type.String(),
  mandateId: Type.String(),
  status: MandateStatus,
  authorizationUrl: Type.String({ description: 'Where a person signs' }),
  expiresAt: Type.String({ format: 'date-time', description: 'Until when it may be signed' }),
  agentStatus: Type.Union([Type.Literal('ready'), Type.Literal('needs_wallet_authorization')]),
});

export const MandateView = Type.Object({
  id: Type.String(),
  mandateId: Type.String(),
  agentId: Type.String(),
  status: MandateStatus,
  naturalLanguage: Type.String(),
  category: Type.Union([Type.String(), Type.Null()]),
  currency: Type.String(),
  limitAmount: Type.String(),
  maxAmountPerTx: Type.Union([Type.String(), Type.Null()]),
  spentAmount: Type.String(),
  pendingSpentAmount: Type.String({ description: 'Held for payments that are signed and not settled' }),
  remainingAmount: Type.String(),
  hostAllowlist: Type.Array(Type.String()),
  validForSeconds: Type.Integer(),
  signedAt: Type.Union([Time, Type.Null()]),
  createdAt: Time,
  expiresAt: Time,
});

export const MandateList = Type.Object({
  data: Type.Array(MandateView),
  has_more: Type.Boolean(),
  next_cursor: Type.Union([Type.String(), Type.Null()]),
});

export const PageQuery = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.pageSizeMax })),
    cursor: Type.Optional(Type.String({ maxLength: 100, description: 'next_cursor of the page before' })),
  },
  { additionalProperties: false },
);

export const MandateParams = Type.Object({ mandateId: Type.String() });

export const PayBody = Type.Object(
  {
    mandate_id: Type.String({ minLength: 1, maxLength: 100 }),
    payment_required: Type.Union(
      [
        Type.String({ minLength: 1, description: 'The PAYMENT-REQUIRED header as it came' }),
        PaymentRequired,
        PaymentRequiredV1,
      ],
      {
        description:
          'What the 402 said: in x402 version 2 the header, or what it decodes to; in version 1 the body',
      },
    ),
  },
  { additionalProperties: false },
);

export const SignedPaymentView = Type.Object({
  id: Type.String(),
  decision_id: Type.String(),
  payment_header_name: Type.String({
    description: 'The header to send it in: PAYMENT-SIGNATURE, or X-PAYMENT for terms of version 1',
  }),
  payment_header: Type.String({ description: 'Its value: send it with the same request again' }),
  expires_at: Time,
});

export const WalletList = Type.Object({
  data: Type.Array(
    Type.Object({
      id: Type.String(),
      network: Type.String({ description: 'CAIP-2' }),
      address: Type.String(),
      balances: Type.Object({ USDC: Type.String({ description: 'Atomic units' }) }),
    }),
  ),
  has_more: Type.Boolean(),
  next_cursor: Type.Union([Type.String(), Type.Null()]),
});

export const NoFields = Type.Object({}, { additionalProperties: false });

const Atomic = Type.String({ description: 'Millionths, as a decimal string' });

export const CreditsView = Type.Object({
  currency: Type.String({
    description: 'USDC; credits of a sandbox are USDC.sandbox, and never meet the other',
  }),
  balance: Atomic,
  held: Type.String({ description: 'Reserved by calls that are under way' }),
  available: Type.String({ description: 'What can be spent: the balance without what is held' }),
});

export const IssueBody = Type.Object(
  {
    environment_id: Type.String({ minLength: 1, maxLength: 100 }),
    amount: AtomicAmount,
    reason: Type.String({ minLength: 1, maxLength: 500 }),
  },
  { additionalProperties: false },
);

export const CreditKeyBody = Type.Object(
  {
    jwk: Type.Record(Type.String(), Type.Unknown(), {
      description: 'The public half as a JWK: P-256 (pays with ES256) or Ed25519 (pays with EdDSA)',
    }),
    name: Type.Optional(Type.String({ minLength: 1, maxLength: 100 })),
  },
  { additionalProperties: false },
);

export const CreditKeyView = Type.Object({
  id: Type.String(),
  kid: Type.String({ description: 'The thumbprint of the key (RFC 7638): what a payment names it by' }),
  name: Type.String(),
  algorithm: Type.Union([Type.Literal('ES256'), Type.Literal('EdDSA')]),
  public_jwk: Type.Record(Type.String(), Type.Unknown()),
  created_at: Time,
  revoked_at: Type.Union([Time, Type.Null()]),
});

export const CreditKeyList = Type.Object({
  data: Type.Array(CreditKeyView),
  has_more: Type.Boolean(),
  next_cursor: Type.Union([Type.String(), Type.Null()]),
});

export const CreditKeyParams = Type.Object({ kid: Type.String() });
