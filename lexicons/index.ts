/**
 * The network contract: types and validators generated from the JSON schemas of this folder.
 *
 * `lexicons/gen` is made by generate.ts and never committed; the JSON is the source.
 */
export * as com from './gen/com.ts';
export * as email from './gen/email.ts';
