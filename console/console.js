import { showLink } from './link.js';
import { showMandate } from './mandate.js';
import { showOverview } from './overview.js';

/** The page is one file: its path says which view is meant. */
const mandateId = /^\/mandates\/([^/]+)\/?$/.exec(location.pathname)?.[1];

const linkId = /^\/links\/([^/]+)\/?$/.exec(location.pathname)?.[1];

if (mandateId !== undefined) void showMandate(mandateId);
else if (linkId !== undefined) void showLink(linkId);
else void showOverview();
