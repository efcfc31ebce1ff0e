export { findAgent, findLinkedEnvironments, linkAgent } from './agents/agents.sql.ts';
export { identityRoutes } from './routes.ts';
export { loadSigningKeys, type SigningKeys } from './signing-keys.ts';
export { createTokens, type Tokens } from './tokens.ts';
