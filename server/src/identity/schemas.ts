import { Type } from 'typebox';

export const AgentCredentials = Type.Object({
  agent_id: Type.String({ description: 'UUID of the agent' }),
  token: Type.String({ description: 'Permanent secret of the agent, shown here only' }),
  jwt: Type.String({ description: 'Bearer token, good for 15 minutes' }),
});

/** A name or a note: one line of text, without control characters. */
export const Line = (maxLength: number) =>
  Type.String({
    minLength: 1,
    maxLength,
    // Looking ahead for `\S` alone: as a part of the line it would let one control character through.
    pattern: '^(?=.*\\S)[^\\u0000-\\u001f\\u007f]*$',
  });

/** RFC 6749 section 3.3: visible ASCII without quote and backslash, so that scopes can be joined by spaces. */
export const ScopeWord = Type.String({
  minLength: 1,
  maxLength: 200,
  pattern: '^[\\x21\\x23-\\x5b\\x5d-\\x7e]+$',
});

export const RegisterBody = Type.Object(
  {
    agent_name: Line(200),
    client_info: Line(500),
    email: Type.Optional(Type.String({ maxLength: 320, pattern: '^[^@\\s]+@[^@\\s]+$' })),
  },
  { additionalProperties: false },
);

export const RefreshBody = Type.Object(
  {
    agent_id: Type.String({ minLength: 1, maxLength: 100 }),
    token: Type.String({ minLength: 1, maxLength: 200 }),
  },
  { additionalProperties: false },
);
