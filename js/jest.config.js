module.exports = {
  testEnvironment: 'jsdom',
  testMatch: ['<rootDir>/tests/**/*.spec.ts'],
  transform: {
    '\\.[jt]sx?$': [
      'ts-jest',
      {
        tsconfig: { allowJs: true, module: 'commonjs', target: 'ES2020', esModuleInterop: true, jsx: 'react' },
        diagnostics: false
      }
    ]
  },
  transformIgnorePatterns: ['/node_modules/(?!(@jupyterlab|@lumino|lib0|y-protocols|@jupyter)/)']
};
