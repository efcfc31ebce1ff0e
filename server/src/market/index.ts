export { createEndpoint } from './create-endpoint.ts';
export { createServer } from './create-server.ts';
export { findEndpoints, findServerBySlug, serverChangedChannel } from './market.sql.ts';
export { moveServer } from './move-server.ts';
export { findPayeeOfResource, findPayTo } from './payee.ts';
export { publishServer } from './publish-server.ts';
export { marketRoutes } from './routes.ts';
export { type Endpoint, type MarketServer } from './server.ts';
