export { type Authenticators } from './authentication.ts';
export { type Listener, openListener } from './listener.ts';
export { describeApi } from './openapi.ts';
export { addConsolePages } from './pages.ts';
export { type ApiScope, apiScopes, type Principal, type PrincipalOf } from './principal.ts';
export { renderProblem } from './problem.ts';
export { defineRoute, type Route } from './route.ts';
export { createControlServer } from './server.ts';
export { toAppError } from './validation.ts';
