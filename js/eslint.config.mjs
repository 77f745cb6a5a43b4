import js from '@eslint/js';
import hooks from 'eslint-plugin-react-hooks';
import typescript from 'typescript-eslint';

export default typescript.config(
  { ignores: ['lib/', 'node_modules/', 'coverage/'] },
  js.configs.recommended,
  typescript.configs.strict,
  {
    files: ['src/**/*.{ts,tsx}'],
    plugins: { 'react-hooks': hooks },
    rules: {
      ...hooks.configs.recommended.rules,
      eqeqeq: 'error',
      // Lab's own way to keep commands and components in one name.
      '@typescript-eslint/no-namespace': 'off'
    }
  },
  { files: ['jest.config.js'], languageOptions: { globals: { module: 'writable' }, sourceType: 'commonjs' } }
);
