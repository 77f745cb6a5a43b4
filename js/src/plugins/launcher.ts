/** A card in the launcher, for those who set it. */
import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ILauncher } from '@jupyterlab/launcher';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import type { IDisposable } from '@lumino/disposable';
import { CommandIDs, ISSHPanel, NAMESPACE } from '../tokens';

const ID = `${NAMESPACE}:launcher`;

export const launcherPlugin: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: 'The card of the SSH panel in the launcher.',
  autoStart: true,
  requires: [ISSHPanel, ISettingRegistry],
  optional: [ILauncher, ITranslator],
  activate: async (
    _app: JupyterFrontEnd,
    _panel: ISSHPanel,
    registry: ISettingRegistry,
    launcher: ILauncher | null,
    translator: ITranslator | null
  ): Promise<void> => {
    if (!launcher) {
      return; // as in Notebook 7
    }
    const trans = (translator ?? nullTranslator).load('jhssh');
    const settings = await registry.load(ID);
    let card: IDisposable | null = null;
    const follow = (): void => {
      const wanted = settings.get('launcherCard').composite === true;
      if (wanted && !card) {
        card = launcher.add({ command: CommandIDs.open, category: trans.__('Other'), args: { isLauncher: true } });
      } else if (!wanted) {
        card?.dispose();
        card = null;
      }
    };
    settings.changed.connect(follow);
    follow();
  }
};
