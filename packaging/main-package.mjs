// The main package as npm is to serve it: names the packages of all platforms, of its own version.
//
//     node main-package.mjs PACKAGE.JSON FOLDER-OF-PLATFORMS

import fs from 'node:fs';
import path from 'node:path';

const [file, platforms] = process.argv.slice(2);
const description = JSON.parse(fs.readFileSync(file));
description.optionalDependencies = {};
for (const platform of fs.readdirSync(platforms).sort()) {
  const { name, version } = JSON.parse(fs.readFileSync(path.join(platforms, platform, 'package.json')));
  if (version !== description.version) throw new Error(`${name} is ${version}, no ${description.version}`);
  description.optionalDependencies[name] = version;
}
// What only a checkout can use.
delete description.devDependencies;
delete description.scripts;
description.files = description.files.filter((name) => !name.endsWith('.node'));
fs.writeFileSync(file, `${JSON.stringify(description, null, 2)}\n`);
