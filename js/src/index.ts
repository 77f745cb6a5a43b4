/** The plugins, each on its own. */
import { commandsPlugin } from './plugins/commands';
import { launcherPlugin } from './plugins/launcher';
import { panelPlugin } from './plugins/panel';

export default [panelPlugin, commandsPlugin, launcherPlugin];
