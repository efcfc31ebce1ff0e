import { findApiKey, findEnvironment } from './accounts/index.ts';
import type { Config } from './config.ts';
import type { Database } from './db/index.ts';
import type { Authenticators, Principal } from './http/index.ts';
import type { AgentIdentifier } from './identity/index.ts';
import { equalDigests, sha256 } from './kernel/crypto.ts';

/** The owner of development's organisation, for whom this machine's requests without a credential act. */
export type DevelopmentPrincipal = Extract<Principal, { kind: 'person' }>;

/** What tells the control plane who a request acts as: one way for each kind of credential, and one for none. */
export function createAuthenticators(
  services: {
    config: Config;
    db: Database;
    identifier: AgentIdentifier;
  },
  developmentPrincipal: () => DevelopmentPrincipal | undefined,
): Authenticators {
  const { db, config } = services;
  const authenticators: Authenticators = {
    async findApiKey(text) {
      const key = await findApiKey(db, text);
      return key ? { kind: 'api_key', apiKeyId: key.id, ...key } : undefined;
    },
    isOperatorKey: (key) =>
      config.operatorKeyHash !== undefined && equalDigests(sha256(key), config.operatorKeyHash),
    resourceMetadataUrl: `${config.publicUrl}/.well-known/oauth-protected-resource`,
    async findAgent({ path, ...presented }) {
      const agent = await services.identifier.identify({ ...presented, url: `${config.publicUrl}${path}` });
      return agent && { kind: 'agent', ...agent };
    },
  };
  if (!config.developmentPrincipal) return authenticators;
  return {
    ...authenticators,
    development: {
      port: () => config.port,
      async principal(environmentId) {
        const principal = developmentPrincipal();
        if (!principal || environmentId === undefined) return principal;
        const environment = await findEnvironment(db, environmentId);
        if (environment?.organisationId !== principal.organisationId) return undefined;
        return { ...principal, environmentId: environment.id };
      },
    },
  };
}
