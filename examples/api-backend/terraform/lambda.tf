terraform {
  required_version = ">= 1.1"
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

# Region and credentials come from the environment.
provider "aws" {}

resource "aws_iam_role" "lambda_role" {
  name_prefix = "api-backend"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
      Effect    = "Allow"
    }]
  })
}

resource "aws_lambda_function" "lambda" {
  filename         = "../lambda.zip" # Pointsman puts the package there
  function_name    = var.function_name
  source_code_hash = filebase64sha256("../lambda.zip")
  role             = aws_iam_role.lambda_role.arn
  handler          = "src/main.handler"

  runtime     = "nodejs20.x"
  memory_size = 128
  timeout     = 120

  publish = true # every apply that changes code or settings is a new version
}

variable "function_name" {
  type    = string
  default = "api-backend"
}

output "lambda_version" {
  value = aws_lambda_function.lambda.version
}

output "lambda_name" {
  value = aws_lambda_function.lambda.function_name
}
