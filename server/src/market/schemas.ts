import { Type } from 'typebox';

const Price = Type.String({
  maxLength: 20,
  description: 'Dollars, such as "$0.01"; at least one cent, or "$0" for a free path',
});
const Settlement = Type.Union(
  [Type.Literal('after_success'), Type.Literal('optimistic'), Type.Literal('upfront')],
  {
    description:
      'When a payment is settled: before its answer is released (after_success), behind it, within limits on what is owed (optimistic), or before the upstream is called (upfront; a failure is refunded)',
  },
);
const Text = (maxLength: number) => Type.String({ minLength: 1, maxLength });

export const CreateServerBody = Type.Object(
  {
    name: Text(200),
    base_url: Type.String({
      minLength: 1,
      maxLength: 2000,
      description: 'Where the API is: https://api.example.com',
    }),
    slug: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 63,
        description: 'Its name in the gateway; from the name if absent',
      }),
    ),
    description: Type.Optional(Type.String({ maxLength: 5000 })),
    pay_to: Type.Optional(
      Type.String({
        pattern: '^0x[0-9a-fA-F]{40}$',
        description: "Who is paid; the environment's own wallet if absent",
      }),
    ),
  },
  { additionalProperties: false },
);

export const ServerView = Type.Object({
  id: Type.String(),
  server_id: Type.String(),
  slug: Type.String(),
  name: Type.String(),
  description: Type.String(),
  base_url: Type.String(),
  pay_to: Type.Union([Type.String(), Type.Null()]),
  state: Type.Union([Type.Literal('draft'), Type.Literal('published')]),
  url: Type.String({ description: 'Where agents call it, once published' }),
});

export const ServerList = Type.Object({
  data: Type.Array(ServerView),
  has_more: Type.Boolean(),
  next_cursor: Type.Union([Type.String(), Type.Null()]),
});

export const CreateEndpointBody = Type.Object(
  {
    public_path: Type.String({ minLength: 1, maxLength: 1000, description: 'What agents call: /weather' }),
    private_path: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 4000,
        description: 'What the upstream receives; may hold secrets, never shown again',
      }),
    ),
    methods: Type.Optional(
      Type.Array(
        Type.Union(
          (['GET', 'POST', 'PUT', 'PATCH', 'DELETE'] as const).map((method) => Type.Literal(method)),
        ),
        {
          minItems: 1,
          uniqueItems: true,
        },
      ),
    ),
    price: Price,
    settlement: Type.Optional(Settlement),
    description: Type.Optional(Type.String({ maxLength: 5000 })),
  },
  { additionalProperties: false },
);

export const EndpointView = Type.Object({
  id: Type.String(),
  endpoint_id: Type.String(),
  server_id: Type.String(),
  public_path: Type.String(),
  methods: Type.Union([Type.Array(Type.String()), Type.Null()]),
  price: Type.String({ description: 'Dollars: "$0.01"' }),
  settlement: Settlement,
  amount: Type.String({ description: 'The same in atomic USDC' }),
  description: Type.String(),
  enabled: Type.Boolean(),
  url: Type.String(),
});

export const ServerParams = Type.Object({ serverId: Type.String() });
export const NoFields = Type.Object({}, { additionalProperties: false });
export const PageQuery = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 20 })),
    cursor: Type.Optional(Type.String({ maxLength: 100 })),
  },
  { additionalProperties: false },
);
