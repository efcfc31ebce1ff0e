export { printBanner } from './banner.ts';
export { setUpDevelopment } from './development.ts';
