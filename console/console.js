import { showMandate } from './mandate.js';
import { showOverview } from './overview.js';

/** The page is one file: its path says which view is meant. */
const mandateId = /^\/mandates\/([^/]+)\/?$/.exec(location.pathname)?.[1];

if (mandateId === undefined) void showOverview();
else void showMandate(mandateId);
