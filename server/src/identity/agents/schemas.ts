import { Type } from 'typebox';
import { limits } from '../../kernel/limits.ts';
import { Line, ScopeWord } from '../schemas.ts';

const Time = Type.String({ format: 'date-time' });
const TimeOrNull = Type.Union([Time, Type.Null()]);

const AgentScopes = Type.Array(ScopeWord, {
  maxItems: 100,
  uniqueItems: true,
  description: `Words for the APIs that the agent calls, of ${limits.agentScopeCharacters} characters together; they open none of ours`,
});
const Tags = Type.Array(Type.String({ pattern: '^[^\\u0000-\\u0020\\u007f,]{1,64}$' }), {
  maxItems: 50,
  uniqueItems: true,
});
const Metadata = Type.Record(Type.String(), Type.Unknown(), { description: 'Up to 10 KiB of JSON' });
const Description = Type.String({ maxLength: 5000 });
const Kind = Line(64);

export const CreateAgentBody = Type.Object(
  {
    name: Line(200),
    type: Type.Optional(Kind),
    description: Type.Optional(Description),
    scopes: Type.Optional(AgentScopes),
    tags: Type.Optional(Tags),
    metadata: Type.Optional(Metadata),
    expires_in: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: limits.agentLifeSecondsMax,
        description: 'Seconds until the agent ends; never, if absent',
      }),
    ),
    self_rotation: Type.Optional(Type.Boolean()),
    ownerOrgId: Type.Optional(
      Type.String({ maxLength: 100, description: 'Of the caller; who that is decides anyway' }),
    ),
  },
  { additionalProperties: false },
);

export const UpdateAgentBody = Type.Object(
  {
    name: Type.Optional(Line(200)),
    type: Type.Optional(Type.Union([Kind, Type.Null()])),
    description: Type.Optional(Description),
    scopes: Type.Optional(AgentScopes),
    tags: Type.Optional(Tags),
    metadata: Type.Optional(Metadata),
    expires_at: Type.Optional(TimeOrNull),
    self_rotation: Type.Optional(
      Type.Boolean({ description: 'Whether the agent may rotate its own secret' }),
    ),
    refresh_without_client_auth: Type.Optional(
      Type.Boolean({ description: 'Whether POST /oauth/refresh takes a bare refresh token of it' }),
    ),
    sender_bound: Type.Optional(
      Type.Boolean({
        description:
          'Whether every token must be bound to one of its public keys (DPoP); switching it on ends those of before',
      }),
    ),
  },
  { additionalProperties: false, minProperties: 1 },
);

export const AgentView = Type.Object({
  id: Type.String(),
  agent_id: Type.String({ description: 'UUID of the agent' }),
  client_id: Type.String({
    description: 'What it calls itself at the token endpoint; the agent id does as well',
  }),
  name: Type.String(),
  type: Type.Union([Type.String(), Type.Null()]),
  description: Type.String(),
  scopes: Type.Array(Type.String()),
  tags: Type.Array(Type.String()),
  metadata: Type.Record(Type.String(), Type.Unknown()),
  status: Type.Union([Type.Literal('active'), Type.Literal('inactive'), Type.Literal('suspended')]),
  is_active: Type.Boolean({ description: 'Active, and not expired' }),
  is_owned: Type.Boolean({
    description:
      'Whether the caller manages it; what registered itself belongs to itself, and can be stopped',
  }),
  self_rotation: Type.Boolean(),
  refresh_without_client_auth: Type.Boolean(),
  sender_bound: Type.Boolean({ description: 'Tokens are given only bound to one of its public keys' }),
  expires_at: TimeOrNull,
  stopped_at: Type.Union([Time, Type.Null()], {
    description: 'When the caller stopped it: only the caller lifts that. Others may have stopped it too',
  }),
  deactivated_at: TimeOrNull,
  created_at: Time,
  updated_at: Time,
});

const Secret = {
  client_secret: Type.Optional(Type.String({ description: 'Shown here only' })),
  secret_available: Type.Optional(
    Type.Literal(false, {
      description: 'The answer is repeated after more than ten minutes, without the secret',
    }),
  ),
};

export const CreatedAgent = Type.Object({
  id: Type.String(),
  agent_id: Type.String(),
  client_id: Type.String(),
  ...Secret,
  agent: AgentView,
});

export const AgentList = Type.Object({
  data: Type.Array(AgentView),
  has_more: Type.Boolean(),
  next_cursor: Type.Union([Type.String(), Type.Null()]),
});

export const ListAgentsQuery = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.pageSizeMax })),
    cursor: Type.Optional(Type.String({ maxLength: 100, description: 'next_cursor of the page before' })),
    q: Type.Optional(
      Type.String({ minLength: 1, maxLength: 200, description: 'In name, description or client id' }),
    ),
    tags: Type.Optional(
      Type.String({ minLength: 1, maxLength: 1000, description: 'All of these, separated by commas' }),
    ),
    status: Type.Optional(
      Type.Union([Type.Literal('active'), Type.Literal('inactive'), Type.Literal('suspended')]),
    ),
  },
  { additionalProperties: false },
);

const GraceSeconds = Type.Optional(
  Type.Integer({
    minimum: 0,
    maximum: limits.rotationGraceSecondsMax,
    description: 'How long the old secret still works; 0 if absent: it stops at once',
  }),
);

export const AgentActionBody = Type.Object(
  { action: Type.Literal('rotate'), grace_seconds: GraceSeconds },
  { additionalProperties: false },
);
export const RotateBody = Type.Object({ grace_seconds: GraceSeconds }, { additionalProperties: false });

export const RotatedSecret = Type.Object({
  agent_id: Type.String(),
  credential_id: Type.String(),
  rotated_from: Type.Union([Type.String(), Type.Null()]),
  ...Secret,
});

export const CreateCredentialBody = Type.Object(
  {
    type: Type.Optional(Type.Union([Type.Literal('secret'), Type.Literal('public_key')])),
    public_key: Type.Optional(
      Type.Union([Type.Record(Type.String(), Type.Unknown()), Type.String({ maxLength: 10_000 })], {
        description: 'A JWK, or SPKI in PEM: RSA, EC on P-256, or Ed25519',
      }),
    ),
  },
  { additionalProperties: false },
);

export const CredentialView = Type.Object({
  id: Type.String(),
  credential_id: Type.String(),
  agent_id: Type.String(),
  type: Type.Union([Type.Literal('secret'), Type.Literal('public_key')]),
  state: Type.Union([
    Type.Literal('active'),
    Type.Literal('expiring'),
    Type.Literal('expired'),
    Type.Literal('revoked'),
  ]),
  display_prefix: Type.Union([Type.String(), Type.Null()]),
  public_key: Type.Union([Type.Record(Type.String(), Type.Unknown()), Type.Null()]),
  thumbprint: Type.Union([Type.String(), Type.Null()], { description: 'RFC 7638' }),
  rotated_from: Type.Union([Type.String(), Type.Null()]),
  created_by: Type.Union([Type.Literal('agent'), Type.Literal('owner')]),
  created_at: Time,
  expires_at: TimeOrNull,
  revoked_at: TimeOrNull,
});

export const CreatedCredential = Type.Object({ ...CredentialView.properties, ...Secret });
export const CredentialList = Type.Object({
  data: Type.Array(CredentialView),
  has_more: Type.Boolean(),
  next_cursor: Type.Union([Type.String(), Type.Null()]),
});

export const ListCredentialsQuery = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.pageSizeMax })),
    cursor: Type.Optional(Type.String({ maxLength: 100, description: 'next_cursor of the page before' })),
  },
  { additionalProperties: false },
);

export const UsageView = Type.Object(
  {
    agent: AgentView,
    token_count: Type.Integer(),
    refresh_count: Type.Integer(),
    request_count: Type.Integer(),
    last_activity_at: TimeOrNull,
    last_token_issued_at: TimeOrNull,
    rotation_history: Type.Array(
      Type.Object({
        rotated_at: Time,
        rotated_by: Type.Union([Type.Literal('agent'), Type.Literal('owner')]),
        credential_id: Type.String(),
        rotated_from: Type.String(),
      }),
      {
        description: `The latest ${limits.pageSizeMax}; GET /v1/agents/{id}/credentials has all that are kept`,
      },
    ),
    requests_per_day: Type.Array(
      Type.Object({
        day: Type.String({ format: 'date' }),
        requests: Type.Integer(),
        tokens: Type.Integer(),
        refreshes: Type.Integer(),
      }),
      { description: 'The latest 31 days on which it did something (UTC)' },
    ),
  },
  { description: 'What happened in the last seconds may be missing' },
);

export const AgentParams = Type.Object({ agentId: Type.String() });
export const CredentialParams = Type.Object({ agentId: Type.String(), credentialId: Type.String() });
export const StoppedAgents = Type.Object({ stopped: Type.Integer() });
/** Of a 204. */
export const NoContent = Type.Null();
export const NoFields = Type.Object({}, { additionalProperties: false });
