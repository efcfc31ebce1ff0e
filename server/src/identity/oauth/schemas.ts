import { Type } from 'typebox';
import { ScopeWord } from '../schemas.ts';

const Text = Type.Optional(Type.String({ maxLength: 10_000 }));

/** RFC 6749 section 2.3.1 and RFC 7523 section 2.2: how a client shows who it is in a body. */
const client = {
  client_id: Text,
  client_secret: Text,
  client_assertion_type: Text,
  client_assertion: Text,
};

export const TokenBody = Type.Object({
  grant_type: Type.Optional(Type.String({ description: 'client_credentials or refresh_token' })),
  ...client,
  scope: Type.Optional(Type.String({ maxLength: 10_000, description: "At most the agent's own scopes" })),
  resource: Type.Optional(
    Type.Union([Type.String(), Type.Array(Type.String())], {
      description: 'RFC 8707: the API that the token is for',
    }),
  ),
  refresh_token: Text,
});

export const TokenAnswer = Type.Object({
  access_token: Type.String({ description: 'RFC 9068' }),
  token_type: Type.Union([Type.Literal('Bearer'), Type.Literal('DPoP')]),
  expires_in: Type.Integer(),
  scope: Type.Optional(Type.String()),
  refresh_token: Type.String(),
});

export const TokenParameter = Type.Object({
  ...client,
  // Whatever was ever issued: earlier versions bounded no scopes.
  token: Type.Optional(
    Type.String({ maxLength: 100_000, description: 'An access token or a refresh token' }),
  ),
  token_type_hint: Text,
});

export const IntrospectionAnswer = Type.Object(
  { active: Type.Boolean() },
  { additionalProperties: true, description: 'RFC 7662' },
);

export const CreateResourceBody = Type.Object(
  {
    identifier: Type.String({
      minLength: 1,
      maxLength: 500,
      description: 'Absolute URI without fragment: the `aud` of its tokens',
    }),
    name: Type.String({ minLength: 1, maxLength: 200, pattern: '^(?=.*\\S)[^\\u0000-\\u001f\\u007f]*$' }),
    scopes: Type.Optional(
      Type.Array(ScopeWord, {
        maxItems: 100,
        description: 'The scopes that it understands; any, where none is named',
      }),
    ),
  },
  { additionalProperties: false },
);

export const ResourceView = Type.Object({
  id: Type.String(),
  identifier: Type.String(),
  name: Type.String(),
  scopes: Type.Array(Type.String()),
  created_at: Type.String(),
});

export const ResourceList = Type.Object({
  data: Type.Array(ResourceView),
  has_more: Type.Boolean(),
  next_cursor: Type.Union([Type.String(), Type.Null()]),
});

export const ResourceParams = Type.Object({ resourceId: Type.String({ maxLength: 100 }) });

export const PageQuery = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 20 })),
    cursor: Type.Optional(Type.String({ maxLength: 100 })),
  },
  { additionalProperties: false },
);

/** RFC 8414 and RFC 9728: members are added by many documents. */
export const Metadata = Type.Object({}, { additionalProperties: true });
