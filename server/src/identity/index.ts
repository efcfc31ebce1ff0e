export { findAgent, findLinkedEnvironments, linkAgent } from './agents/agents.sql.ts';
export { identityRoutes } from './routes.ts';
export { loadSigningKeys, type SigningKeys } from './signing-keys/signing-keys.ts';
export { signingKeysChannel } from './signing-keys/signing-keys.sql.ts';
export { createTokens, type Tokens } from './tokens/tokens.ts';
