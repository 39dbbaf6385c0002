/**
 * From an entry of the table back to a listing that answers the same; off the hot path.
 *
 * What no answer shows is not in the table: the seq, kind and trust of what is blocked, the mail types of
 * what is not vouched for, vouchers beyond the text's budget.
 */
import { MAX_TEXT_OCTETS } from '../limits.ts';
import type { Kind, Listing, Trust } from '../listing.ts';
import { FORM, type Form } from './place.ts';
import type { Table } from './table.ts';
import { EntryText } from './text.ts';
import { TEMPLATE } from './texts.ts';
import { coversBelow, FLAG, kindOf, mailTypesOf, mailTypeTexts, trustOf } from './values.ts';

const scratch = Buffer.alloc(MAX_TEXT_OCTETS);
const text = new EntryText();

/** @returns undefined for a test point, which is no listing */
export function listingOf(table: Table, form: Form, ref: number, value: number): Listing | undefined {
  const flags = table.values.flags(value);
  if ((flags & FLAG.test) !== 0) return undefined;
  text.read(table, value, form, ref);
  const name = scratch.toString('latin1', 0, text.writeName(scratch, 0));
  if ((flags & FLAG.foreign) !== 0) return foreignListing(table, form, name, value);
  const { head, vouchers, prefix, suffix, named } = piecesOf(table, table.values.template(value));
  const blocked = (flags & FLAG.blocked) !== 0;
  return {
    ...(form === FORM.name ? { name } : { address: name }),
    list: blocked ? 'blocked' : 'vouched',
    kind: (kindOf(value) || 2) as Kind,
    trust: trustOf(value) as Trust,
    mailTypes: mailTypeNames(flags),
    ...(blocked && { reason: head.slice('reason='.length, -' did='.length) }),
    coverSubdomains: coversBelow(value),
    did: scratch.toString('utf8', 0, text.writeDid(scratch, 0)),
    vouchers: vouchers === '' ? [] : vouchers.split(','),
    url: named ? prefix + name + suffix : prefix,
    seq: 0,
  };
}

function foreignListing(table: Table, form: Form, name: string, value: number): Listing {
  const template = table.values.template(value);
  const octets = template === 0 ? 0 : table.texts.length(template);
  const written = Buffer.from(table.texts.octets.buffer, template, octets).toString();
  return {
    ...(form === FORM.name ? { name } : { address: name }),
    list: (table.values.flags(value) & FLAG.blocked) !== 0 ? 'blocked' : 'vouched',
    ...{ kind: 2, trust: 0, did: '', vouchers: [], url: '', seq: 0 },
    mailTypes: mailTypeNames(table.values.flags(value)),
    coverSubdomains: coversBelow(value),
    foreign: { address: foreignCode(table, value), ...(template !== 0 && { text: written }) },
  };
}

function mailTypeNames(flags: number): Listing['mailTypes'] {
  return mailTypeTexts[mailTypesOf(flags)]!.split(' ').filter(Boolean) as Listing['mailTypes'];
}

function foreignCode(table: Table, value: number): string {
  const code = table.values.did(value, 0);
  return `127.${(code >>> 16) & 0xff}.${(code >>> 8) & 0xff}.${code & 0xff}`;
}

function piecesOf(table: Table, template: number) {
  const { octets } = table.texts;
  let at = template + TEMPLATE.pieces;
  const next = (which: number) => {
    const length = octets[template + which]! | (octets[template + which + 1]! << 8);
    at += length;
    return Buffer.from(octets.buffer, at - length, length).toString();
  };
  const head = next(TEMPLATE.head);
  const vouchers = next(TEMPLATE.vouchers);
  const prefix = next(TEMPLATE.prefix);
  return { head, vouchers, prefix, suffix: next(TEMPLATE.suffix), named: octets[template] === 1 };
}
