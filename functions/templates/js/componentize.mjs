// Makes a component of a JavaScript module: `coldframe function build` runs it where componentize-js is installed.
import { componentize } from '@bytecodealliance/componentize-js';
import { writeFile } from 'node:fs/promises';

const [sourcePath, witPath, worldName, output] = process.argv.slice(2);
// Time, chance and hosts come through function.wit, where the manifest grants them. console goes to the function's log.
const disableFeatures = ['random', 'clocks', 'http', 'fetch-event'];
const { component } = await componentize({ sourcePath, witPath, worldName, disableFeatures });
await writeFile(output, component);
