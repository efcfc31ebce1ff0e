CREATE TABLE servers (
  environment_id text NOT NULL REFERENCES environments,
  id             text NOT NULL,
  slug           text NOT NULL,
  name           text NOT NULL CHECK (name <> ''),
  description    text NOT NULL,
  base_url       text NOT NULL,
  pay_to         text,
  state          text NOT NULL CHECK (state IN ('draft', 'published')),
  created_at     timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL,
  PRIMARY KEY (environment_id, id)
);

-- Slugs are unique on the instance, and tell the gateway whose server it is.
CREATE TABLE server_slugs (
  slug           text PRIMARY KEY,
  environment_id text NOT NULL,
  server_id      text NOT NULL
);

-- `private_path` may hold secrets: sealed, and never shown again.
CREATE TABLE endpoints (
  environment_id text NOT NULL,
  id             text NOT NULL,
  server_id      text NOT NULL,
  public_path    text NOT NULL,
  private_path   bytea NOT NULL,
  methods        text[],
  price          numeric(78, 0) NOT NULL CHECK (price >= 0),
  description    text NOT NULL,
  enabled        boolean NOT NULL,
  created_at     timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL,
  PRIMARY KEY (environment_id, id),
  UNIQUE (environment_id, server_id, public_path),
  FOREIGN KEY (environment_id, server_id) REFERENCES servers
);
