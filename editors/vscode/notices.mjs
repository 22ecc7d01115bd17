// Writes THIRD_PARTY_NOTICES.txt: the licences of what esbuild has put into out/extension.js. The Python packages
// in server/libs keep theirs in their own folders.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const { inputs } = JSON.parse(readFileSync('out/meta.json', 'utf8'));
const folders = Object.keys(inputs).map((file) => /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0]);
const notices = [...new Set(folders.filter(Boolean))].sort().map((folder) => {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  if (!license || !file || !existsSync(join(folder, file))) {
    throw new Error(`${folder}: no licence found`);
  }
  return `${name} ${version} (${license})\n\n${readFileSync(join(folder, file), 'utf8').trim()}\n`;
});
writeFileSync('THIRD_PARTY_NOTICES.txt', notices.join(`\n${'-'.repeat(80)}\n\n`));
