export { type Environment, findEnvironment, findFirstEnvironment } from './accounts.sql.ts';
export { type EnvironmentKind } from './api-key.ts';
export { createApiKey } from './create-api-key.ts';
export { createOrganisation } from './create-organisation.ts';
export { findApiKey } from './find-api-key.ts';
