import { Type } from 'typebox';

/** Whom a credential is for: the verifier's own name for itself, byte for byte. */
const Audience = Type.String({
  minLength: 1,
  maxLength: 500,
  pattern: '^[^\\u0000-\\u001f\\u007f]*$',
  description: "The verifier's own identifier, such as its URL",
});

const Challenge = Type.String({
  minLength: 1,
  maxLength: 4096,
  description: 'What the verifier gave, unchanged; at most 4096 bytes of UTF-8',
});

export const IssueBody = Type.Object(
  {
    challenge: Challenge,
    audience: Audience,
    ttl_seconds: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 86_400, default: 300, description: '300 unless it is given' }),
    ),
  },
  { additionalProperties: false },
);

export const IssuedCredential = Type.Object({
  vc: Type.String({ description: 'A JWT (typ vc+jwt) for this verifier and this challenge' }),
  jti: Type.String(),
  issued_at: Type.String({ format: 'date-time' }),
  expires_at: Type.String({ format: 'date-time' }),
  kid: Type.String({ description: 'The key in /.well-known/jwks.json that verifies it' }),
});

export const VerifyBody = Type.Object(
  {
    vc: Type.String({ minLength: 1, maxLength: 100_000 }),
    audience: Audience,
    challenge: Challenge,
  },
  { additionalProperties: false },
);

export const Verification = Type.Object({
  valid: Type.Boolean(),
  payload: Type.Optional(
    Type.Record(Type.String(), Type.Unknown(), { description: 'The claims; `sub` is the agent' }),
  ),
  error: Type.Optional(
    Type.String({ description: 'Why it is not valid, such as `expired` or `wrong_audience`' }),
  ),
});
