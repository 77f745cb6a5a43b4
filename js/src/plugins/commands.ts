/** The palette's commands. */
import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Clipboard, ICommandPalette, Notification } from '@jupyterlab/apputils';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { sshIcon } from '../icons';
import { CommandIDs, ISSHPanel, NAMESPACE } from '../tokens';

/** Without it Lab would show a notification nowhere but in its list. */
const SHOWN_FOR = 6000;

export const commandsPlugin: JupyterFrontEndPlugin<void> = {
  id: `${NAMESPACE}:commands`,
  description: 'Commands of the SSH panel.',
  autoStart: true,
  requires: [ISSHPanel],
  optional: [ICommandPalette, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    panel: ISSHPanel,
    palette: ICommandPalette | null,
    translator: ITranslator | null
  ): void => {
    const trans = (translator ?? nullTranslator).load('jhssh');
    app.commands.addCommand(CommandIDs.open, {
      label: args => (args['isLauncher'] ? trans.__('SSH') : trans.__('SSH: Show panel')),
      caption: trans.__('Keys and how to connect to this server by SSH'),
      icon: args => (args['isPalette'] ? undefined : sshIcon),
      execute: () => panel.open()
    });
    app.commands.addCommand(CommandIDs.addKey, {
      label: trans.__('SSH: Add public key'),
      execute: () => panel.addKey()
    });
    app.commands.addCommand(CommandIDs.copyCommand, {
      label: trans.__('SSH: Copy connect command'),
      execute: async () => {
        const command = await panel.connectCommand();
        if (command) {
          Clipboard.copyToSystem(command);
          Notification.success(trans.__('Copied: %1', command), { autoClose: SHOWN_FOR });
        } else {
          Notification.warning(trans.__('There is no SSH command for this server: the SSH panel says why.'), {
            autoClose: SHOWN_FOR
          });
          panel.open();
        }
      }
    });
    for (const command of Object.values(CommandIDs)) {
      palette?.addItem({ command, category: trans.__('SSH'), args: { isPalette: true } });
    }
  }
};
