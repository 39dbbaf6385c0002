/** The text of a first configuration: what these roles need, with a word on each. */
import { roles as allRoles, type Role } from '../config-schema.ts';

export type Template = {
  name: string;
  domain: string;
  url: string;
  email?: string;
  did?: string;
  /** Left out: all. */
  roles?: Role[];
  /** `host:port`. */
  listenWeb?: string;
  /** Such as `24h`. */
  reverifyInterval?: string;
};

export function configurationText(o: Template): string {
  const has = (...wanted: Role[]) => wanted.some((role) => (o.roles ?? allRoles).includes(role));
  const parts = [
    ...identity(o, has('relay')),
    ...(o.roles ? [`  "roles": ${JSON.stringify(o.roles).replaceAll(',', ', ')},`] : []),
    '  "stateDir": "./state",',
    ...listeners(o, has),
    ...(has('relay', 'inbound')
      ? [
          '  // Without "tls" the mail ports use a self-signed certificate.',
          '  // "tls": { "certFile": "/etc/atmos/tls/fullchain.pem", "keyFile": "/etc/atmos/tls/privkey.pem" },',
        ]
      : []),
    '  "network": { "resolvers": ["127.0.0.1:53"] },',
    ...(has('dns') ? zone(o) : []),
    ...(o.reverifyInterval ? [`  "labeler": { "reverifyInterval": ${quoted(o.reverifyInterval)} },`] : []),
    ...(has('relay') ? operator(o) : []),
    '  // Whom you guarantee: their votes count in your list.',
    '  "peers": []',
  ];
  return `// One cooperative. Every key that is left out has a default; a wrong one is refused with its line.
{
${parts.join('\n')}
}
`;
}

function identity({ name, domain, url, did }: Template, relay: boolean): string[] {
  return [
    `  "name": ${quoted(name)},`,
    ...(did ? [`  "did": ${quoted(did)},`] : []),
    relay
      ? '  // The pool domain: the second DKIM d= on every message.'
      : '  // The domain by which others know the cooperative. It needs no mail records: no mail is sent from here.',
    `  "domain": ${quoted(domain)},`,
    did
      ? '  // Where people reach the pages, and peers the labels.'
      : "  // Where people reach the pages. The cooperative's DID is made from it: did:web:<host>.",
    `  "publicUrl": ${quoted(url)},`,
  ];
}

function listeners({ listenWeb }: Template, has: (...roles: Role[]) => boolean): string[] {
  const ports = [
    `    "web": ${quoted(listenWeb ?? '127.0.0.1:8080')}`,
    ...(has('relay') ? ['    "submission": "0.0.0.0:587"', '    "submissions": "0.0.0.0:465"'] : []),
    ...(has('inbound') ? ['    "inbound": "0.0.0.0:25"'] : []),
    ...(has('dns') ? ['    "dns": "0.0.0.0:53"'] : []),
  ];
  return ['  "listen": {', '    // Behind a reverse proxy that speaks https.', ports.join(',\n'), '  },'];
}

function zone({ domain }: Template): string[] {
  return [
    '  "dns": {',
    `    "apex": ${quoted(`list.${domain}`)},`,
    `    "nameservers": [${quoted(`ns1.${domain}`)}],`,
    `    "hostmaster": ${quoted(`hostmaster@${domain}`)}`,
    '  },',
  ];
}

function operator({ email }: Template): string[] {
  return [
    '  // Who is told when a member is held or mail cannot be taken. An address elsewhere: port 25 takes no mail yet.',
    `  ${email ? '' : '// '}"operator": { "email": ${quoted(email ?? 'you@elsewhere.example')} },`,
  ];
}

function quoted(value: string): string {
  return JSON.stringify(value);
}
